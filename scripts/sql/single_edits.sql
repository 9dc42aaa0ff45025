-- Single edits of every editor that a study has, rank-one methods among them, a line a model and editor.
select
    study,
    model,
    method,
    count(*) as n_edits,
    count(*) filter (where collapsed) as n_collapsed,
    count(*) filter (where perplexity_ratio > 2) as n_doubled,
    max(perplexity_ratio) as largest,
    avg(efficacy) as efficacy,
    avg(generalization) as generalization,
    avg(locality) as locality,
    median(text_change) as text_change
from edit_outcomes
where perplexity is not null
group by study, study_id, model, model_place, method
order by study, model_place, model, method_order(method)
