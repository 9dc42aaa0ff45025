-- Which edits damage their model most, and what did they divide by?
select
    model,
    method,
    replace(prompt, '{}', subject) as prompt,
    target_new,
    perplexity_before as before,
    perplexity as after,
    abs(denominator) as denominator,
    rho
from edit_outcomes
order by perplexity_ratio desc, edit_id
limit 5
