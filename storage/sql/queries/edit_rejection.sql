-- Why can the model of a study of one request not take it?
select rejections.reason
from studies
inner join study_models on study_models.study_id = studies.study_id
inner join rejections
    on rejections.dataset_id = studies.dataset_id
    and rejections.model_id = study_models.model_id
where studies.study_id = $study_id
