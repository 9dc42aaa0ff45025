-- And by another rule: perplexity above 50, whatever it was before?
-- The macro of the same name takes the rule as its argument; `null` leaves a part out.
select study, model, method, sum(n_collapsed) as collapsed, sum(n_edits) as edits
from collapse_incidence(threshold := 50, ratio := null)
group by all
having collapsed > 0
order by all
