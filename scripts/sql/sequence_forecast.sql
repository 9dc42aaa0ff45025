-- Does the change on text, with a bound from all other editors, tell when an editor's sequences have
-- tripled the perplexity, or have collapsed by the default rule?
with judged as (
    select 'tripled' as rule, *
    from sequence_forecast_by_editor(threshold := null, ratio := 3)
    union all by name
    select 'collapsed' as rule, *
    from sequence_forecast_by_editor
)
select *
from judged
order by study, model_order(study_id, model), model, rule desc, method_order(method), editor
