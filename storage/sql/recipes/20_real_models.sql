-- How often do edits break real pretrained LLMs, with and without a start token?
-- Collapse is a rule with a threshold; an edit that doubles the perplexity has done damage too. `prefixed` is the efficacy
-- behind one context.
select
    model,
    method,
    count(*) as n,
    count(*) filter (where collapsed) as collapsed,
    count(*) filter (where perplexity_ratio > 2) as doubled,
    round(max(perplexity_ratio), 1) as worst,
    round(avg(efficacy), 2) as efficacy,
    round(avg(efficacy_one_prefix), 2) as prefixed
from edit_outcomes
where study in ('real', 'gemma')
group by study, model, method
order by study desc, model, method_order(method)
