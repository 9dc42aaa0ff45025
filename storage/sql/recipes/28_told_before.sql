-- Does the closed-form change on text tell a collapse of a sequence before it is seen?
-- The bound for an editor is the smallest change at which another editor's model had collapsed; `lead` is how many edits
-- before the collapse it was reached. Empty = no other editor collapsed, or no collapse was caught.
select
    study,
    model,
    editor,
    round(bound, 3) as bound,
    n_collapsed as collapsed,
    n_caught as caught,
    n_missed as missed,
    n_false_alarms as false_alarms,
    n_quiet as quiet,
    median_lead as lead
from sequence_forecast_by_editor
order by study, model, method_order(method), editor
