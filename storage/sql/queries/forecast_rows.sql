-- What is known of the edits of one model, as one study would make them?
select forecasts.*
from main.forecasts
where forecasts.model_id = $model_id
    and forecasts.layer = $layer
    and forecasts.covariance_id = $covariance_id
    and forecasts.template_set_id = $template_set_id
    and forecasts.settings_id = $settings_id
order by forecasts.request_id, method_order(forecasts.method), forecasts.method
