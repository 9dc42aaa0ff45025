-- How often does each method collapse each model?
-- `collapse_incidence` has a row for each position of the subject; the macros `wilson_low` and
-- `wilson_high` give the 95 % interval of any share.
select
    model,
    method,
    sum(n_collapsed) as collapsed,
    sum(n_edits) as edits,
    wilson_low(sum(n_collapsed), sum(n_edits)) as low,
    wilson_high(sum(n_collapsed), sum(n_edits)) as high
from collapse_incidence
group by all
order by collapsed desc, model, method
