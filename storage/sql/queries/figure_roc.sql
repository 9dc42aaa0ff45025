-- With the threshold lowered step by step: which share of the collapsed is caught, at which share of
-- false alarms? Above 1,000 edits shares are rounded to half a percent: the curve needs no more.
with judged as (
    select
        model,
        method,
        text_change_bound as bound,
        collapsed(
            perplexity_by($measure, perplexity, nll_mean, perplexity_median),
            perplexity_by($measure, perplexity_before, nll_mean_before, perplexity_median_before),
            $threshold,
            $ratio
        ) as is_collapsed
    from forecast_outcomes
    where study_id = $study_id
),
totals as (
    select
        model,
        method,
        count(*) filter (where is_collapsed) as n_collapsed,
        count(*) filter (where not is_collapsed) as n_normal,
        if(count(*) > 1000, 0.005, 0.00001) as step
    from judged
    group by all
    having n_collapsed > 0 and n_normal > 0
),
bounds as (
    select
        model,
        method,
        bound,
        count(*) filter (where is_collapsed) as n_collapsed,
        count(*) filter (where not is_collapsed) as n_normal
    from judged
    group by all
),
steps as (
    select
        model,
        method,
        sum(n_collapsed) over above as n_caught,
        sum(n_normal) over above as n_false
    from bounds
    window above as (partition by model, method order by bound desc)
    union all
    select model, method, 0, 0
    from totals
),
rounded as (
    select distinct
        model,
        method,
        (round(n_false / n_normal / step) * step)::double as false_alarms,
        (round(n_caught / n_collapsed / step) * step)::double as caught
    from steps
    inner join totals using (model, method)
)
from rounded
order by model_order($study_id, model), model, method_order(method), method, false_alarms, caught
