-- At which layers would edits be safe? Forecasts of the study's requests, models with several layers.
with asked as (
    select
        study_models.model_id,
        min(study_models.name) as model,
        min(study_models.place) as model_place,
        studies.dataset_id
    from studies
    inner join study_models using (study_id)
    where studies.study_id = $study_id
    group by study_models.model_id, studies.dataset_id
),
foreseen as (
    select
        asked.model,
        asked.model_place,
        model_id,
        forecasts.method,
        forecasts.layer,
        forecast_verdict(
            text_change_bound, tokens_per_d_key, at_risk_at, collapse_at
        ) as verdict
    from asked
    inner join forecasts using (model_id)
    inner join forecast_thresholds using (model_id)
    where forecasts.request_id in (
        select request_id from requests where requests.dataset_id = asked.dataset_id
    )
)
select
    model,
    method,
    layer,
    count(*) as n_forecasts,
    count(*) filter (where verdict = 'safe') as n_safe,
    count(*) filter (where verdict = 'at risk') as n_at_risk,
    count(*) filter (where verdict = 'will collapse') as n_will_collapse,
    count(*) filter (where verdict = 'not known') as n_not_known
from foreseen
where model_id in (select model_id from foreseen group by model_id having count(distinct layer) > 1)
group by all
order by min(model_place), model, min(method_order(method)), method, layer
