-- How much of what the edits of a study's sequences wrote is left at the last checkpoint?
select
    model,
    editor,
    n_edits,
    quantity,
    immediate,
    final,
    lost,
    lost_low,
    lost_high,
    n_orders,
    n_scored
from sequence_success
where study_id = $study_id and quantity in ('efficacy', 'generalization', 'locality')
qualify n_edits = max(n_edits) over (partition by model, editor)
order by model_order($study_id, model), model, method_order(method), editor, quantity
