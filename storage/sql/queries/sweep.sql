-- What did a sweep find: verdicts on some requests of one model, by layer, method and position?
select
    layer,
    method,
    subject_position,
    n_requests,
    n_safe,
    n_at_risk,
    n_will_collapse,
    median_denominator,
    median_bound,
    largest_bound,
    n_not_known
from main.forecast_by_layer(request_ids := $request_ids)
where model_id = $model_id
    and template_set_id = $template_set_id
    and list_contains($set_ups, covariance_id || ' ' || settings_id)
order by layer, method, subject_position
