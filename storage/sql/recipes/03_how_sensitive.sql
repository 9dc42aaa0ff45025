-- How much does the answer depend on the rule?
-- One query, many rules: `collapsed` is a scalar macro.
select
    ratio,
    count(*) filter (where collapsed(perplexity, perplexity_before, null, ratio)) as collapsed,
    count(*) as edits
from edit_outcomes, (values (1.1), (1.5), (2), (5), (10), (50), (100), (500)) as rules (ratio)
where method = 'rome' and model = 'gpt2-induced'
group by ratio
order by ratio
