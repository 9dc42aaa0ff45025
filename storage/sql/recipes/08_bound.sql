-- Is the bound on ROME's update ever violated, and how close do edits come?
-- The bound is known before any optimisation; edits at the clamp reach it, up to float32's rounding.
select
    study,
    model,
    count(*) filter (where update_norm > 1.00001 * update_norm_bound) as violated,
    count(*) filter (where clamp_hit) as at_the_clamp,
    median(update_norm / update_norm_bound) as median_share,
    count(*) as edits
from edit_outcomes
where method = 'rome'
group by all
order by all
