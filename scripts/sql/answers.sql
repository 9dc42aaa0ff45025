-- What do edits achieve in free generation, beside teacher forcing? Means over the edits of study `generation`.
select
    method,
    context,
    avg(efficacy) as efficacy,
    avg(exact_efficacy) as exact,
    avg(contains_efficacy) as contains,
    avg(locality) as locality,
    avg(generated_locality) as same_tokens,
    avg(ngram_entropy) as fluency,
    avg(ngram_entropy_before) as fluency_before
from generation_outcomes
where study = 'generation'
group by method, context
order by method_order(method), list_position(['question', 'instruction', 'chat'], context)
