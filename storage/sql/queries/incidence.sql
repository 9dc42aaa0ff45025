-- How often do edits collapse the model, in one study ($study_id) or, with null, in all of them, by
-- a rule ($threshold, $ratio, $measure)?
select *
from collapse_incidence(threshold := $threshold, ratio := $ratio, measure := $measure, kinds := null)
where $study_id::varchar is null or study_id = $study_id::varchar
order by
    study, study_id, model_place, model, method_order(method), method,
    position_order(subject_position), subject_position
