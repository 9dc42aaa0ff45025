-- Which edits damage their model most, what did they divide by, and what does the model write then?
-- `writes` is the start of its text behind the prompt, kept for each model's 10 worst edits; NULL = not kept.
select
    model,
    method,
    replace(edit_outcomes.prompt, '{}', subject) as prompt,
    target_new,
    perplexity_before as before,
    perplexity as after,
    abs(denominator) as denominator,
    rho,
    left(text_after, 40) as writes
from edit_outcomes
left join continuations using (edit_id)
order by perplexity_ratio desc, edit_id
limit 5
