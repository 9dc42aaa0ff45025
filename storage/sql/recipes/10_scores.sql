-- What are CounterFact's scores, in percent, as the editing papers print them?
-- Method `none` is the unedited model.
select study, model, method, n_edits, s, es, ps, ns
from counterfact_scores
order by study, model, method_order(method) nulls first
