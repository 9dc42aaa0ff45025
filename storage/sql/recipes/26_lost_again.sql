-- How much of what the edits of a sequence wrote do later edits undo?
-- The same edits right after they were made and at the last checkpoint; `lost` is the difference, with a 95 % interval over
-- the orders of the requests.
select
    study,
    model,
    editor,
    n_edits,
    quantity,
    round(immediate, 3) as immediate,
    round(final, 3) as final,
    round(lost, 3) as lost,
    round(lost_low, 3) as low,
    round(lost_high, 3) as high,
    n_orders as orders
from sequence_success
where quantity in ('efficacy', 'generalization', 'locality')
qualify n_edits = max(n_edits) over (partition by study_id, model, editor)
order by study, model, method_order(method), editor, quantity
