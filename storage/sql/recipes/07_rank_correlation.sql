-- How well does rho, known before any optimisation, order the damage?
-- Spearman's correlation of 1 / |rho| and the perplexity ratio: Pearson's, of ranks.
with ranked as (
    select
        study,
        model,
        method,
        rank() over (partition by study, model, method order by 1 / abs(rho)) as forecast,
        rank() over (partition by study, model, method order by perplexity_ratio) as damage
    from edit_outcomes
    where perplexity_ratio is not null
)
select study, model, method, count(*) as edits, corr(forecast, damage) as spearman
from ranked
where method = 'rome'
group by all
order by all
