-- Of the edits with about one P(collapse), how many did collapse? In ten bins of equal width.
with judged as (
    select
        outcomes.model,
        case
            when forecast_supported(outcomes.tokens_per_d_key)
                then collapse_probability(outcomes.text_change_bound, thresholds)
        end as probability,
        collapsed(
            perplexity_by(
                $measure, outcomes.perplexity, outcomes.nll_mean, outcomes.perplexity_median
            ),
            perplexity_by(
                $measure,
                outcomes.perplexity_before,
                outcomes.nll_mean_before,
                outcomes.perplexity_median_before
            ),
            $threshold,
            $ratio
        ) as is_collapsed
    from forecast_outcomes as outcomes
    inner join forecast_thresholds as thresholds on thresholds.model_id = outcomes.model_id
    where outcomes.study_id = $study_id
),
binned as (
    select
        model,
        least(floor(10 * probability), 9) as bin,
        count(*) as n_edits,
        count(*) filter (where is_collapsed) as n_collapsed,
        avg(probability)::double as foreseen
    from judged
    where probability is not null
    group by all
)
select
    model,
    foreseen,
    (n_collapsed / n_edits)::double as observed,
    wilson_low(n_collapsed, n_edits) as low,
    wilson_high(n_collapsed, n_edits) as high,
    n_edits
from binned
order by model_order($study_id, model), model, bin
