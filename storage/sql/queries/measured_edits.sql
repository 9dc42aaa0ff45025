-- What does counting collapses need of each measured edit? The columns of edit_outcomes, without the joins
-- that counting does not need.
insert into measured_edits by name
select
    studies.name as study,
    studies.study_id,
    study_models.name as model,
    edits.method,
    datasets.name as dataset,
    positions.subject_position,
    measurements.perplexity,
    base_perplexities.perplexity as perplexity_before,
    measurements.nll_mean,
    base_perplexities.nll_mean as nll_mean_before,
    measurements.perplexity_median,
    base_perplexities.perplexity_median as perplexity_median_before,
    subjects.subject
from studies
inner join study_edits on study_edits.study_id = studies.study_id
inner join edits on edits.edit_id = study_edits.edit_id
inner join measurements
    on measurements.edit_id = edits.edit_id
    and measurements.evaluation_id = studies.evaluation_id
left join study_models
    on study_models.study_id = studies.study_id
    and study_models.model_id = edits.model_id
    and study_models.layer = edits.layer
left join datasets on datasets.dataset_id = studies.dataset_id
left join positions
    on positions.model_id = edits.model_id
    and positions.request_id = edits.request_id
left join (
    -- A request's id is a digest of its content, subject included.
    select request_id, any_value(subject) as subject
    from requests
    group by request_id
) as subjects on subjects.request_id = edits.request_id
left join base_perplexities
    on base_perplexities.model_id = edits.model_id
    and base_perplexities.evaluation_id = studies.evaluation_id
order by studies.study_id, study_models.name, edits.method, positions.subject_position
