-- Why does it collapse? What tells first-token subjects from others, with and without the anomaly.
-- `editcollapse anatomy` has compared their keys: [anatomy.md](anatomy.md). Column `statement` says each row in words.
select observation, model, value, low, high, n_group, n_others
from anatomy
where grouping = 'first_token'
    and model in ('gpt2-induced', 'gpt2-control')
order by observation_order, model
