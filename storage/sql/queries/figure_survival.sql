-- Which share of a study's sequences leaves the model alive after so many edits?
select model, editor, method, n_edits, alive, lower, upper, at_risk
from sequence_survival(threshold := $threshold, ratio := $ratio, measure := $measure)
where study_id = $study_id
order by model_order($study_id, model), model, method_order(method), editor, n_edits
