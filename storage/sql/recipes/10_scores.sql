-- What are CounterFact's scores, in percent, as the editing papers print them?
-- Method `none` is the unedited model.
select model, method, n_edits, s, es, ps, ns
from counterfact_scores
order by model, method_order(method) nulls first
