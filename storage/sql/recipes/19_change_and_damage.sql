-- Does the exact change of the layer's output on text order the damage better than its bound?
-- The bound is known before any optimisation, the change as soon as v* is: neither needs an evaluation.
select study, model, method, n_edits, bound_spearman, change_spearman
from change_and_damage
where method <> '(all)'
order by all
