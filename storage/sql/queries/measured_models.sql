-- What did every edit do that was foreseen, made and measured, and of which model at which layer was it?
select
    models.source,
    models.start_token is not null as start_token,
    forecasts.layer,
    models.n_layers,
    models.d_key,
    covariances.n_tokens,
    outcomes.study,
    outcomes.study_id,
    outcomes.perplexity_before as base_ppl,
    outcomes.method,
    coalesce(outcomes.case_id, outcomes.record_index::varchar) as "case",
    dense_rank() over (
        partition by models.model_id order by coalesce(outcomes.subject, outcomes.request_id)
    ) - 1 as subject,
    outcomes.subject_position,
    forecasts.text_change_bound,
    outcomes.text_change,
    forecasts.rho,
    outcomes.perplexity / outcomes.perplexity_before as ppl_ratio,
    exp(measurements.nll_mean - base_perplexities.nll_mean) as nll_ratio
from edit_outcomes as outcomes
inner join forecasts on forecasts.edit_id = outcomes.edit_id
inner join models on models.model_id = outcomes.model_id
inner join covariances on covariances.covariance_id = forecasts.covariance_id
inner join measurements
    on measurements.edit_id = outcomes.edit_id
    and measurements.evaluation_id = outcomes.evaluation_id
inner join base_perplexities
    on base_perplexities.model_id = outcomes.model_id
    and base_perplexities.evaluation_id = outcomes.evaluation_id
where outcomes.study_kind = 'study'
order by
    models.source,
    start_token,
    forecasts.layer,
    method_order(outcomes.method),
    outcomes.record_index,
    forecasts.edit_id
