-- How often does free generation give the new object, beside teacher forcing?
-- Means over edits of the same rows. Teacher forcing gives the model the target's tokens one after the other; in free
-- generation it writes by itself. `exact` is the answer after normalisation, `contains` any answer with the object in it,
-- `same` the share of neighborhood prompts with the very tokens of the unedited model; fluency in bits.
select
    study,
    model,
    method,
    context,
    count(*) as edits,
    round(avg(efficacy), 3) as forced,
    round(avg(exact_efficacy), 3) as exact,
    round(avg(contains_efficacy), 3) as contains,
    round(avg(judged_efficacy), 3) as judged,
    round(avg(locality), 3) as forced_locality,
    round(avg(generated_locality), 3) as same,
    round(avg(ngram_entropy), 2) as fluency,
    round(avg(ngram_entropy_before), 2) as fluency_before
from generation_outcomes
group by study, study_id, model, method, context
order by study, model, method_order(method), context
