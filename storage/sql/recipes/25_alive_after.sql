-- Which share of the sequences has left its model alive after 10, 50 and 200 edits?
-- `sequence_survival` has the curve, a row for each checkpoint; a value holds until the next one, and beyond the last there is none
-- unless all have collapsed. 0 to 1, with 95 % intervals.
with curves as (
    select
        *,
        max(n_edits) over editors as last_known,
        min(alive) over editors as least
    from sequence_survival
    window editors as (partition by study_id, model, editor)
)
select
    study,
    model,
    editor,
    asked.n_edits,
    round(arg_max(alive, curves.n_edits), 3) as alive,
    round(arg_max(lower, curves.n_edits), 3) as low,
    round(arg_max(upper, curves.n_edits), 3) as high,
    arg_max(at_risk, curves.n_edits) as at_risk
from curves, (values (10), (50), (200)) as asked (n_edits)
where curves.n_edits <= asked.n_edits and (asked.n_edits <= last_known or least = 0)
group by study_id, study, model, editor, method, asked.n_edits
order by study, model, method_order(method), editor, asked.n_edits
