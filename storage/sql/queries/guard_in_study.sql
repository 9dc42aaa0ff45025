-- What did the study's guard do with the edits that were asked for, and did any that was made collapse?
with decided as (
    select
        model,
        method,
        policy,
        acts_at,
        at_risk_at,
        collapse_at,
        calibration_id,
        count(*) as n_asked,
        count(*) filter (where decision = 'made') as n_made,
        count(*) filter (where decision = 'switched') as n_switched,
        count(*) filter (where decision = 'prefixed') as n_prefixed,
        count(*) filter (where decision = 'refused') as n_refused,
        count(perplexity) as n_measured,
        count(*) filter (where collapsed(
            perplexity_by($measure, perplexity, nll_mean, perplexity_median),
            perplexity_by($measure, perplexity_before, nll_mean_before, perplexity_median_before),
            $threshold,
            $ratio
        )) as n_collapsed,
        max(
            perplexity_by($measure, perplexity, nll_mean, perplexity_median)
            / perplexity_by(
                $measure, perplexity_before, nll_mean_before, perplexity_median_before
            )
        ) as max_perplexity_ratio
    from guard_outcomes
    where study_id = $study_id
    group by all
)
from decided
order by model_order($study_id, model), model, method_order(method), method
