-- What does the remedy cost? Efficacy with and without a test-time prefix.
-- C-ROME writes to the prefixed key: where that is far from the bare one, the bare prompt stays as it was.
select
    study,
    model,
    method,
    subject_position,
    avg(efficacy) as bare,
    avg(efficacy_one_prefix) as one_prefix,
    avg(efficacy_prefix_mean) as all_prefixes,
    min(efficacy_prefix_min) as worst_prefix
from edit_outcomes
where subject_position = 'first_token'
group by study, model, method, subject_position
order by study, model, method_order(method)
