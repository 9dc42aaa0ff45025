-- How well do the edits do by CounterFact's scores and by EasyEdit's, beside the unedited model?
create view counterfact_scores as
with unedited as (
    -- The unedited model answers a request once, however many edits there are of it.
    select distinct on (study_id, model_id, request_id) *
    from main.edit_outcomes
    where efficacy_before is not null
    order by study_id, model_id, request_id, template_set_id
),
answers as (
    select
        study,
        study_id,
        model,
        model_place,
        method,
        efficacy_score,
        paraphrase_score,
        neighborhood_score,
        efficacy_magnitude,
        paraphrase_magnitude,
        neighborhood_magnitude,
        efficacy,
        generalization,
        locality,
        portability
    from main.edit_outcomes
    where efficacy is not null
    union all
    select
        study,
        study_id,
        model,
        model_place,
        'none' as method,
        efficacy_score_before,
        paraphrase_score_before,
        neighborhood_score_before,
        efficacy_magnitude_before,
        paraphrase_magnitude_before,
        neighborhood_magnitude_before,
        efficacy_before,
        generalization_before,
        locality_before,
        portability_before
    from unedited
),
means as (
    select
        study,
        study_id,
        model,
        model_place,
        method,
        count(*) as n_edits,
        100 * avg(efficacy_score) as es,
        100 * avg(paraphrase_score) as ps,
        100 * avg(neighborhood_score) as ns,
        100 * avg(efficacy_magnitude) as em,
        100 * avg(paraphrase_magnitude) as pm,
        100 * avg(neighborhood_magnitude) as nm,
        avg(efficacy) as efficacy,
        avg(generalization) as generalization,
        avg(locality) as locality,
        avg(portability) as portability
    from answers
    group by study, study_id, model, model_place, method
)
select
    study,
    study_id,
    model,
    method,
    n_edits,
    case
        when es is null or ps is null or ns is null then null
        when es = 0 or ps = 0 or ns = 0 then 0.0::double
        else 3 / (1 / es + 1 / ps + 1 / ns)
    end as s,
    es,
    ps,
    ns,
    em,
    pm,
    nm,
    efficacy,
    generalization,
    locality,
    portability
from means
order by
    study, study_id, model_place, model, main.method_order(method) nulls first, method;

comment on view counterfact_scores is
    'CounterFact''s scores (percent, as published) and EasyEdit''s (fractions), by study, model and method; method none is the unedited model.';
comment on column counterfact_scores.study is 'Name of the study. Text.';
comment on column counterfact_scores.study_id is 'Study: studies.study_id.';
comment on column counterfact_scores.model is 'Name of the model in the study. Text.';
comment on column counterfact_scores.method is
    'Method of the edits; none is the unedited model. Text.';
comment on column counterfact_scores.n_edits is
    'Edits measured; with method none, requests measured. Count.';
comment on column counterfact_scores.s is
    'Score S: harmonic mean of es, ps and ns, 0 where one of them is. Percent. NULL = one is not measured.';
comment on column counterfact_scores.es is 'Efficacy score, mean. Percent.';
comment on column counterfact_scores.ps is 'Paraphrase score, mean. Percent.';
comment on column counterfact_scores.ns is 'Neighborhood score, mean. Percent.';
comment on column counterfact_scores.em is 'Efficacy magnitude, mean. Percent, -100 to 100.';
comment on column counterfact_scores.pm is 'Paraphrase magnitude, mean. Percent, -100 to 100.';
comment on column counterfact_scores.nm is 'Neighborhood magnitude, mean. Percent, -100 to 100.';
comment on column counterfact_scores.efficacy is 'Efficacy (EasyEdit), mean. Fraction 0-1.';
comment on column counterfact_scores.generalization is
    'Generalization (EasyEdit), mean. Fraction 0-1.';
comment on column counterfact_scores.locality is 'Locality (EasyEdit), mean. Fraction 0-1.';
comment on column counterfact_scores.portability is
    'Portability (KnowEdit), mean over the edits that have it. Fraction 0-1. NULL = none has portability prompts.';
