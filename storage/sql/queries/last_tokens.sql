-- Of how many requests does the subject end with another token in a context than in the bare prompt?
select
    study_models.name as model,
    count(distinct edits.request_id) filter (where positions.last_token_differs) as n_differ,
    count(distinct edits.request_id) as n_requests
from study_edits
inner join edits on edits.edit_id = study_edits.edit_id
inner join study_models
    on study_models.study_id = study_edits.study_id
    and study_models.model_id = edits.model_id
    and study_models.layer = edits.layer
inner join positions
    on positions.model_id = edits.model_id
    and positions.request_id = edits.request_id
where study_edits.study_id = $study_id
group by study_models.name, study_models.place
having n_differ > 0
order by study_models.place, study_models.name
