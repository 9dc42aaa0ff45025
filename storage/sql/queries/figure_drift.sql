-- How far do the weights move over the edits of a study's sequences? Median and range over the orders,
-- at up to about 100 steps of each editor.
with counted as (
    select
        model,
        editor,
        min(method) as method,
        n_edits,
        median(text_change) as text_change,
        min(text_change) as text_change_low,
        max(text_change) as text_change_high,
        median(relative_drift) as relative_drift,
        min(relative_drift) as relative_drift_low,
        max(relative_drift) as relative_drift_high,
        count(*) as n_orders
    from sequence_drift
    where study_id = $study_id
    group by model, editor, n_edits
),
placed as (
    select
        *,
        row_number() over (editors order by n_edits) - 1 as place,
        count(*) over editors as n_points
    from counted
    window editors as (partition by model, editor)
)
select * exclude (place, n_points)
from placed
where place % ceil(n_points / 100) = 0 or place = n_points - 1
order by model_order($study_id, model), model, method_order(method), editor, n_edits
