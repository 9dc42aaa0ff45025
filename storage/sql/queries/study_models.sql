-- Which models are edited where, and what is their second moment measured on?
with used as (
    select distinct
        study_edits.study_id,
        edits.model_id,
        edits.layer,
        edits.layer_source,
        edits.covariance_id,
        edits.template_set_id,
        edits.settings_id
    from study_edits
    inner join edits using (edit_id)
    -- Other editors have settings of their own; a model has its rank-one methods' where there are such.
    qualify edits.denominator is not null
        or not bool_or(edits.denominator is not null) over (
            partition by study_edits.study_id, edits.model_id, edits.layer
        )
)
select
    study_models.name as model,
    models.source,
    models.family,
    models.dtype || coalesce(' dequantised from ' || models.quantization, '') as dtype,
    study_models.layer,
    used.layer_source,
    models.n_layers,
    models.n_parameters,
    base_perplexities.perplexity as perplexity_before,
    covariances.kind as covariance,
    covariances.source as covariance_source,
    covariances.n_tokens as covariance_tokens,
    covariances.damping,
    study_models.model_id,
    used.covariance_id,
    used.template_set_id,
    used.settings_id
from studies
inner join study_models on study_models.study_id = studies.study_id
left join models on models.model_id = study_models.model_id
left join base_perplexities
    on base_perplexities.model_id = study_models.model_id
    and base_perplexities.evaluation_id = studies.evaluation_id
left join used
    on used.study_id = studies.study_id
    and used.model_id = study_models.model_id
    and used.layer = study_models.layer
left join covariances on covariances.covariance_id = used.covariance_id
where studies.study_id = $study_id
order by study_models.place, model, study_models.layer
