-- What does another method change, request by request?
-- `compare` pairs edits by request; `difference` is side b minus side a, with its 95 % interval.
select model_a as model, method_b, quantity, n_pairs, value_a, value_b, difference, low, high
from compare
where differs = 'method'
    and method_a = 'rome'
    and quantity in ('collapsed', 'efficacy', 'locality')
    and model_a = 'gpt2-induced'
order by all
