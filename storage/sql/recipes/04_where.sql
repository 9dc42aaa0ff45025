-- Where is the subject in the prompts that collapse?
-- `collapse_by_position` is to be read, a line for each model and method; `collapse_incidence` has the same as
-- numbers, to be computed with. `method_order` puts the baseline first.
select study, model, method, first_token, several, inside, worst
from collapse_by_position
order by study, model, method_order(method)
