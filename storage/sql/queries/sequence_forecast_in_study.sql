-- Does a bound on the change on text, taken from all other editors, tell the collapse of an editor's sequences?
select
    model,
    editor,
    bound,
    n_sequences,
    n_collapsed,
    n_caught,
    n_missed,
    n_false_alarms,
    n_quiet,
    median_lead,
    smallest_lead
from sequence_forecast_by_editor(threshold := $threshold, ratio := $ratio, measure := $measure)
where study_id = $study_id
order by model_order($study_id, model), model, method_order(method), editor
