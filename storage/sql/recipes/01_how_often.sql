-- How often does each method collapse each model?
-- The 95 % interval takes the subject as the unit: edits of one subject are no independent draws. `by_nll` is the
-- count where perplexity is exp(mean NLL), on which no single text has such a hold. `collapse_incidence` has a row for
-- each position of the subject.
select
    model,
    method,
    n_collapsed as collapsed,
    n_by_nll as by_nll,
    n_edits as edits,
    n_subjects as subjects,
    wilson_low as low,
    wilson_high as high
from collapse_by_method
order by collapsed desc, model, method
