-- How much does the answer depend on the rule?
-- One query, many rules and three measures of perplexity: `collapsed` and `perplexity_by` are scalar macros.
select
    ratio,
    count(*) filter (where collapsed(perplexity, perplexity_before, null, ratio)) as by_mean,
    count(*) filter (where collapsed(exp(nll_mean), exp(nll_mean_before), null, ratio)) as by_nll,
    count(*) filter (
        where collapsed(perplexity_median, perplexity_median_before, null, ratio)
    ) as by_median,
    count(*) as edits
from edit_outcomes, (values (1.1), (1.5), (2), (5), (10), (50), (100), (500)) as rules (ratio)
where method = 'rome' and model = 'gpt2-induced'
group by ratio
order by ratio
