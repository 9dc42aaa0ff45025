-- Did the optimisation of v* succeed, and is the damage there where it did not?
-- `target_probability` is that of the new object with the optimised value, before any weight is written.
-- The methods of one model share v*, so one of them is enough.
select
    study,
    model,
    subject_position,
    median(n_steps) as steps,
    median(target_probability) as target_probability,
    count(*) filter (where clamp_hit) / count(*)::double as at_the_clamp,
    median(perplexity_ratio) as perplexity_ratio
from edit_outcomes
where method = 'rome'
group by all
order by all
