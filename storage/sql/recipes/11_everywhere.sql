-- Which requests collapse both embedded models that have the anomaly?
-- `collapsed` is by the default rule. An edit request has the same `request_id` in every study and model: it is a digest of its content.
select subject, prompt, count(distinct model) as models, max(perplexity_ratio) as worst_ratio
from edit_outcomes
where collapsed and study = 'demo'
group by request_id, subject, prompt
having models = 2
order by worst_ratio desc, request_id
limit 5
