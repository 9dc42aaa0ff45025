-- Which edits damage their model most?
select
    model,
    method,
    subject,
    prompt,
    target_new,
    perplexity_before,
    perplexity,
    perplexity_ratio,
    abs(denominator) as abs_denominator
from edit_outcomes
where study_id = $study_id and perplexity_ratio is not null
order by perplexity_ratio desc, model, method, record_index
limit 10
