-- How does perplexity grow over the edits of a study's sequences? Median and range over the orders.
with outcomes as (
    select model, editor, method, n_edits, perplexity_ratio, perplexity_before
    from sequence_outcomes(threshold := $threshold, ratio := $ratio, measure := $measure)
    where study_id = $study_id
),
counted as (
    select
        model,
        editor,
        min(method) as method,
        n_edits,
        median(perplexity_ratio) as median,
        min(perplexity_ratio) as smallest,
        max(perplexity_ratio) as largest,
        count(*) as n_orders,
        min(perplexity_before) as perplexity_before
    from outcomes
    group by model, editor, n_edits
    union all
    select
        model,
        editor,
        min(method) as method,
        0 as n_edits,
        1 as median,
        1 as smallest,
        1 as largest,
        max(n_orders) as n_orders,
        min(perplexity_before) as perplexity_before
    from (
        select *, count(*) over (partition by model, editor, n_edits) as n_orders
        from outcomes
    )
    group by model, editor
)
from counted
order by model_order($study_id, model), model, method_order(method), editor, n_edits
