-- What is perplexity before and after the edits, by model and method?
with measured as (
    select
        model,
        model_place,
        method,
        perplexity_by($measure, perplexity, nll_mean, perplexity_median) as after,
        perplexity_by(
            $measure, perplexity_before, nll_mean_before, perplexity_median_before
        ) as before
    from edit_outcomes
    where study_id = $study_id and perplexity is not null
)
select
    model,
    method,
    count(*) as n_edits,
    min(before) as perplexity_before,
    median(after) as median,
    max(after) filter (where isfinite(after)) as largest_finite,
    count(*) filter (where isinf(after)) as n_infinite,
    count(*) filter (where isnan(after)) as n_undefined
from measured
group by all
order by min(model_place), model, min(method_order(method)), method
