-- What is perplexity before and after the edits, by model and method?
select
    model,
    method,
    count(*) as n_edits,
    min(perplexity_before) as perplexity_before,
    median(perplexity) as median,
    max(perplexity) filter (where isfinite(perplexity)) as largest_finite,
    count(*) filter (where isinf(perplexity)) as n_infinite,
    count(*) filter (where isnan(perplexity)) as n_undefined
from edit_outcomes
where study_id = $study_id and perplexity is not null
group by all
order by min(model_place), model, min(method_order(method)), method
