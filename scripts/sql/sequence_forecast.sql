-- Does the change on text, with a bound from all other editors, tell when an editor's sequences have
-- tripled the perplexity?
select *
from sequence_forecast_by_editor(threshold := null, ratio := 3)
order by study, model_order(study_id, model), model, method_order(method), editor
