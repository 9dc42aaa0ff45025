-- Which models have edits that were foreseen, made and measured?
select model_id, string_agg(distinct model, ', ' order by model) as name
from forecast_outcomes
group by model_id
order by name, model_id
