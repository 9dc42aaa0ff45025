-- After how many edits, one after the other, does a sequence collapse its model?
-- Over the orders of the requests: `median` is Kaplan and Meier's, in edits at a checkpoint; a sequence that ends without a
-- collapse counts up to its end. Empty = not reached.
select
    study,
    model,
    editor,
    n_collapsed as collapsed,
    n_orders as orders,
    median,
    earliest,
    latest,
    round(alive, 3) as alive,
    round(lower, 3) as low,
    round(upper, 3) as high
from collapse_step_by_editor
order by study, model, method_order(method), editor
