-- Which edited models of any making were checked, and is each still alive?
-- `text_change` is the largest change of a linear map's output on text, of the difference of its weights alone.
select
    name,
    base,
    kind,
    n_changed as tensors,
    round(text_change, 3) as text_change,
    forecast,
    round(perplexity_before, 3) as before,
    round(perplexity, 3) as after,
    round(perplexity_ratio, 3) as ratio,
    collapsed
from check_outcomes
order by name, check_id
