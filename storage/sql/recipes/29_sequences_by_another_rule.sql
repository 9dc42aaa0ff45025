-- And after how many edits does a sequence collapse by another rule: twice the perplexity, by exp(mean NLL)?
-- Each view of sequences that knows a collapse is a macro too: `sequence_outcomes`, `collapse_steps`, `sequence_survival`,
-- `sequence_forecast` and their counts by editor.
select study, model, editor, n_collapsed as collapsed, n_orders as orders, median, earliest, latest
from collapse_step_by_editor(threshold := null, ratio := 2, measure := 'nll')
order by study, model, method_order(method), editor
