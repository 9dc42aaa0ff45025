-- Which thresholds on the bound do the edits of one model give that were foreseen, made and measured?
with measured as (
    select distinct on (edit_id, evaluation_id)
        edit_id,
        evaluation_id,
        model_id,
        text_change_bound as score,
        main.collapsed(
            perplexity_by($measure, perplexity, nll_mean, perplexity_median),
            perplexity_by($measure, perplexity_before, nll_mean_before, perplexity_median_before),
            $threshold,
            $ratio
        ) as is_collapsed
    from main.forecast_outcomes
    where model_id = $model_id and main.forecast_supported(tokens_per_d_key)
    order by edit_id, evaluation_id
),
-- Bounds that differ by rounding noise are one: the smallest of them stands for all, so that no
-- threshold parts them.
stepped as (
    select
        score,
        is_collapsed,
        coalesce(score > 1.000001 * lag(score) over (order by score), true) as is_next
    from measured
),
numbered as (
    select
        score,
        is_collapsed,
        sum(is_next::integer) over (order by score range between unbounded preceding and current row)
            as tie
    from stepped
),
tied as (
    select is_collapsed, min(score) over (partition by tie) as score
    from numbered
),
totals as (
    select
        count(*) as n_edits,
        count(*) filter (where is_collapsed) as n_collapsed,
        count(distinct model_id) as n_models,
        max(score) filter (where not is_collapsed) as largest_normal,
        min(score) filter (where is_collapsed) as smallest_collapsed,
        md5(string_agg(
            concat_ws(' ', edit_id, evaluation_id, score, is_collapsed), chr(10)
            order by edit_id, evaluation_id
        )) as data_digest
    from measured
),
ranked as (
    select
        score,
        is_collapsed,
        count(*) filter (where is_collapsed) over above as caught,
        count(*) over above as flagged,
        rank() over (order by score) + (count(*) over (partition by score) - 1) / 2.0 as place
    from tied
    window above as (order by score desc range between unbounded preceding and current row)
),
lowest as (
    select max(score) as at_least
    from ranked
    cross join totals
    where is_collapsed and caught >= $recall * n_collapsed
),
at_risk as (
    select
        coalesce(
            sqrt(at_least * (
                select max(score) from tied where score < at_least and score > 0
            )),
            at_least
        ) as at_risk_at
    from lowest
)
select
    totals.*,
    at_risk.at_risk_at,
    coalesce(
        (
            select min(score)
            from ranked
            where is_collapsed and score >= at_risk.at_risk_at
                and caught >= $precision * flagged
        ),
        'inf'::double
    ) as collapse_at,
    (
        select
            (sum(place) - totals.n_collapsed * (totals.n_collapsed + 1) / 2.0)
            / nullif(totals.n_collapsed * (totals.n_edits - totals.n_collapsed), 0)
        from ranked
        where is_collapsed
    )::double as auc
from totals
cross join at_risk
