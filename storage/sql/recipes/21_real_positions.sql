-- Where, and why? ROME's edits of real LLMs by the place of the subject, beside what they divide by.
-- In SmolLM2 rho is near 0 where the subject's last token is the prompt's first; in Gemma 3 270M it is not.
select
    model,
    subject_position,
    count(*) as n,
    round(median(rho), 3) as rho,
    round(median(abs(denominator)), 3) as denominator,
    round(median(text_change), 2) as text_change,
    count(*) filter (where perplexity_ratio > 2) as doubled,
    round(max(perplexity_ratio), 1) as worst
from edit_outcomes
where study in ('real', 'gemma') and method = 'rome'
group by study, model, subject_position
order by study desc, model, position_order(subject_position)
