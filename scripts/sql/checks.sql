-- What did checks of edited models of several makings find?
select
    name,
    base,
    n_changed,
    text_change,
    perplexity_before,
    perplexity,
    case
        when n_changed = 0 then 'nothing differs'
        when collapsed then 'collapsed'
        when perplexity_ratio > 2 then 'at risk'
        else 'alive'
    end as verdict,
    forecast,
    forecast_probability
from check_outcomes
order by base, text_change desc nulls last, name
