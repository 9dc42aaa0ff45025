-- What does one study consist of, and how much of it is measured?
with prefixed as (
    select distinct on (made_request_id) made_request_id, request_id
    from guard_decisions
    where study_id = $study_id and decision = 'prefixed'
    order by made_request_id, request_id
)
select
    studies.study_id,
    studies.name,
    studies.description,
    studies.settings,
    studies.seed,
    studies.numerics,
    datasets.name as dataset,
    datasets.schema_name,
    datasets.n_records,
    datasets.n_rejected,
    evaluations.text_set,
    evaluations.n_texts,
    count(edits.edit_id) as n_edits,
    count(measurements.edit_id) as n_measured,
    count(distinct coalesce(prefixed.request_id, edits.request_id)) as n_requests
from studies
left join datasets using (dataset_id)
left join evaluations using (evaluation_id)
left join study_edits on study_edits.study_id = studies.study_id
left join edits on edits.edit_id = study_edits.edit_id
left join measurements
    on measurements.edit_id = edits.edit_id
    and measurements.evaluation_id = studies.evaluation_id
left join prefixed on prefixed.made_request_id = edits.request_id
where studies.study_id = $study_id
group by all
