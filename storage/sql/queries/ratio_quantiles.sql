-- How much worse do the edits of one study make each model, by method?
-- No finite number is above any: a quantile of such edits is none either.
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
    count(*) filter (where collapsed(after, before, $threshold, $ratio)) as n_collapsed,
    count(*) filter (where not isfinite(after / before)) as n_not_finite,
    quantile_disc(after / before, 0.5) as ratio_median,
    quantile_disc(after / before, 0.9) as ratio_q90,
    quantile_disc(after / before, 0.99) as ratio_q99,
    max(after / before) as ratio_max
from measured
group by all
order by min(model_place), model, min(method_order(method)), method
