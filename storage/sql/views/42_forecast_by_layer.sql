-- At which layers would edits collapse a model, and at which is every one safe?
-- The view asks of all forecasts, the macro of the same name of some requests alone:
--     from forecast_by_layer;
--     from forecast_by_layer(request_ids := (select list(request_id) from requests));
create macro forecast_by_layer(request_ids := null) as table
with judged as (
    select
        model_names.model,
        models.source as model_source,
        forecasts.*,
        positions.subject_position,
        main.forecast_verdict(
            forecasts.text_change_bound,
            forecasts.tokens_per_d_key,
            thresholds.at_risk_at,
            thresholds.collapse_at
        ) as verdict
    from main.forecasts
    inner join main.forecast_thresholds as thresholds on thresholds.model_id = forecasts.model_id
    left join main.models on models.model_id = forecasts.model_id
    left join main.model_names on model_names.model_id = forecasts.model_id
    left join main.positions
        on positions.model_id = forecasts.model_id and positions.request_id = forecasts.request_id
    where request_ids is null or forecasts.request_id in (select unnest(request_ids))
)
select
    model,
    model_source,
    model_id,
    layer,
    method,
    subject_position,
    covariance_id,
    template_set_id,
    settings_id,
    count(*) as n_requests,
    count(*) filter (where verdict = 'safe') as n_safe,
    count(*) filter (where verdict = 'at risk') as n_at_risk,
    count(*) filter (where verdict = 'will collapse') as n_will_collapse,
    median(abs(denominator)) as median_denominator,
    median(text_change_bound) as median_bound,
    max(text_change_bound) as largest_bound,
    count(*) filter (where verdict = 'not known') as n_not_known
from judged
group by
    model, model_source, model_id, layer, method, subject_position, covariance_id, template_set_id,
    settings_id
order by model, model_id, layer, method, subject_position, covariance_id, template_set_id,
    settings_id;

create view forecast_by_layer as
select * from main.forecast_by_layer(request_ids := null);

comment on macro table forecast_by_layer is
    'Verdicts counted by layer, with the requests that count as argument: a list of request_id; NULL = all.';
comment on view forecast_by_layer is
    'Verdicts of all forecasts, counted by model, layer, method and position of the subject; a row for each C, template set and v* settings. After editcollapse sweep: every layer.';
comment on column forecast_by_layer.model is
    'Name of the model: model_names.model. Text. NULL = neither the model nor a study of it is recorded.';
comment on column forecast_by_layer.model_source is
    'Hub id or folder name of the model. Text. NULL = the model''s row is not recorded.';
comment on column forecast_by_layer.model_id is 'Model: models.model_id.';
comment on column forecast_by_layer.layer is 'Block that would be edited. Index from 0.';
comment on column forecast_by_layer.subject_position is
    'positions.subject_position: first_token, first_several or inside. Text. NULL = the positions are not recorded.';
comment on column forecast_by_layer.covariance_id is
    'Second moment: covariances.covariance_id.';
comment on column forecast_by_layer.template_set_id is
    'Set of context templates: templates.template_set_id.';
comment on column forecast_by_layer.settings_id is
    'Settings of the v* optimisation: value_settings.settings_id.';
comment on column forecast_by_layer.n_requests is 'Requests with a forecast. Count.';
comment on column forecast_by_layer.n_safe is 'Of these, safe. Count.';
comment on column forecast_by_layer.n_at_risk is 'Of these, at risk. Count.';
comment on column forecast_by_layer.n_will_collapse is 'Of these, likely to collapse (verdict will collapse). Count.';
comment on column forecast_by_layer.median_denominator is
    'Median of |a . u|: forecasts.denominator without its sign. No unit.';
comment on column forecast_by_layer.median_bound is
    'Median of forecasts.text_change_bound. Ratio, no unit.';
comment on column forecast_by_layer.largest_bound is
    'Largest forecasts.text_change_bound. Ratio, no unit; inf where a denominator is 0.';
comment on column forecast_by_layer.n_not_known is
    'Of these, not known: C has too few tokens. Count.';
