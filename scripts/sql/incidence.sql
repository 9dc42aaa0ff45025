-- Collapses of every study, a line a model and method.
select
    collapse.*,
    edits.doubled
from collapse_by_position as collapse
inner join (
    select
        study,
        model,
        method,
        count(*) filter (where perplexity_ratio > 2) as doubled
    from edit_outcomes
    group by all
) as edits using (study, model, method)
order by study, model_order(study_id, model), model, method_order(method)
