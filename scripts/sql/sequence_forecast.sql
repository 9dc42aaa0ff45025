-- Does the change on text, with a bound from all other editors, tell the collapse of an editor's sequences?
select *
from sequence_forecast_by_editor
order by study, model_order(study_id, model), model, method_order(method), editor
