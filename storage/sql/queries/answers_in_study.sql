-- What do the edits of a study achieve where the model writes by itself, beside teacher forcing? Means over the edits.
select
    outcomes.model,
    outcomes.method,
    outcomes.context,
    settings.n_tokens,
    judges.model as judge,
    count(*) as n_edits,
    avg(outcomes.efficacy) as efficacy,
    avg(outcomes.exact_efficacy) as exact_efficacy,
    avg(outcomes.contains_efficacy) as contains_efficacy,
    avg(outcomes.judged_efficacy) as judged_efficacy,
    avg(outcomes.generalization) as generalization,
    avg(outcomes.exact_generalization) as exact_generalization,
    avg(outcomes.contains_generalization) as contains_generalization,
    avg(outcomes.locality) as locality,
    avg(outcomes.generated_locality) as generated_locality,
    avg(outcomes.ngram_entropy) as ngram_entropy,
    avg(outcomes.ngram_entropy_before) as ngram_entropy_before
from generation_outcomes as outcomes
inner join generation_settings as settings on settings.generation_id = outcomes.generation_id
left join judges on judges.judge_id = outcomes.judge_id
where outcomes.study_id = $study_id
group by
    outcomes.model, outcomes.method, outcomes.context, outcomes.generation_id, settings.n_tokens,
    outcomes.judge_id, judges.model
order by
    model_order($study_id, outcomes.model), outcomes.model, method_order(outcomes.method),
    outcomes.method, outcomes.context, settings.n_tokens, outcomes.generation_id, judge,
    outcomes.judge_id
