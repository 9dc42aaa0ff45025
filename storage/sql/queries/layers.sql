-- At which layers are the edits of a study's models safe, as far as they were foreseen?
select
    study_models.name as model,
    by_layer.*
from (
    select distinct on (model_id) model_id, name
    from main.study_models
    where study_id = $study_id
    order by model_id, layer
) as study_models
inner join main.forecast_by_layer as by_layer on by_layer.model_id = study_models.model_id
order by model, by_layer.layer, by_layer.method, by_layer.subject_position,
    by_layer.covariance_id, by_layer.template_set_id, by_layer.settings_id
