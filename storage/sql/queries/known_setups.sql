-- How do the studies of a results folder edit one model? The largest C comes first.
with used as (
    select distinct model_id, layer, layer_source, covariance_id, template_set_id, settings_id
    from main.edits
    where model_id = $model_id
        and layer_source <> 'tuning'  -- that is tried, and no study's
        and denominator is not null  -- of rank-one methods, which a forecast can be made of
    union
    select distinct model_id, layer, layer_source, covariance_id, template_set_id, settings_id
    from main.forecasts
    where model_id = $model_id
)
select
    used.layer,
    -- A layer that a study chose was not merely swept.
    coalesce(
        min(used.layer_source) filter (where used.layer_source <> 'layer sweep'),
        'layer sweep'
    ) as layer_source,
    used.covariance_id,
    covariances.kind as covariance,
    covariances.n_tokens,
    covariances.damping,
    covariances.artifact_digest as moment_digest,
    used.template_set_id,
    (
        select list(template order by template_index)
        from main.templates
        where templates.template_set_id = used.template_set_id
    ) as templates,
    used.settings_id,
    value_settings.steps,
    value_settings.learning_rate,
    value_settings.weight_decay,
    value_settings.kl_factor,
    value_settings.clamp_factor,
    value_settings.stop_loss
from used
inner join main.covariances on covariances.covariance_id = used.covariance_id
inner join main.value_settings on value_settings.settings_id = used.settings_id
where exists (from main.templates where templates.template_set_id = used.template_set_id)
group by all
order by covariances.n_tokens desc, used.layer, used.covariance_id, used.template_set_id,
    used.settings_id
