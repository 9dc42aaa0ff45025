-- Do edits that spare the model still edit? Collapses beside efficacy, generalization, locality
-- and portability (EasyEdit, KnowEdit) and the scores ES, PS and NS (CounterFact), by position of the subject.
select
    model,
    method,
    subject_position,
    count(*) as n_edits,
    avg(collapsed(
        perplexity_by($measure, perplexity, nll_mean, perplexity_median),
        perplexity_by($measure, perplexity_before, nll_mean_before, perplexity_median_before),
        $threshold,
        $ratio
    )::integer) as collapse_share,
    avg(efficacy) as efficacy,
    avg(efficacy_prefix_mean) as efficacy_prefixed,
    avg(generalization) as generalization,
    avg(locality) as locality,
    avg(portability) as portability,
    avg(efficacy_score) as es,
    avg(paraphrase_score) as ps,
    avg(neighborhood_score) as ns
from edit_outcomes
where study_id = $study_id and perplexity is not null
group by all
order by
    min(model_place), model, min(method_order(method)), method,
    min(position_order(subject_position)), subject_position
