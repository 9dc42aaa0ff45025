-- What happened to each edit of each study: the request, the update and every measurement?
create view edit_outcomes as
with study_requests as (
    -- A file may hold the same request twice; an edit then has one row, the first record's.
    select distinct on (dataset_id, request_id) *
    from main.requests
    order by dataset_id, request_id, record_index
),
prefixed as (
    -- A guard puts texts before prompts; such a request is a record of a dataset of its own.
    select distinct on (study_id, made_request_id)
        study_id,
        made_request_id as request_id,
        made_dataset_id as dataset_id
    from main.guard_decisions
    where decision = 'prefixed'
    order by study_id, made_request_id, made_dataset_id
)
select
    studies.name as study,
    studies.study_id,
    studies.kind as study_kind,
    study_models.name as model,
    study_models.place as model_place,
    edits.model_id,
    models.family,
    datasets.name as dataset,
    studies.dataset_id,
    edits.edit_id,
    edits.method,
    edits.layer,
    edits.layer_source,
    covariances.kind as covariance,
    edits.covariance_id,
    edits.template_set_id,
    edits.settings_id,
    edits.request_id,
    study_requests.record_index,
    study_requests.case_id,
    study_requests.subject,
    study_requests.prompt,
    study_requests.target_new,
    study_requests.target_true,
    study_requests.relation_id,
    positions.subject_position,
    positions.subject_first_index,
    positions.subject_last_index,
    positions.n_subject_tokens,
    positions.n_prompt_tokens,
    positions.is_first_token,
    positions.is_sequence_start,
    positions.subject_last_token,
    positions.n_target_new_tokens,
    positions.last_token_differs,
    edits.numerator_norm,
    edits.denominator,
    edits.rho,
    edits.bare_key_norm,
    edits.prefixed_key_norm,
    edits.key_cosine,
    edits.bare_key_dot,
    edits.prefixed_key_dot,
    edits.delta_norm,
    edits.bare_value_norm,
    edits.update_norm,
    edits.relative_update_norm,
    edits.update_norm_bound,
    edits.n_steps,
    edits.loss,
    edits.loss_nll,
    edits.loss_kl,
    edits.loss_weight_decay,
    edits.target_probability,
    edits.clamp_hit,
    edits.update_digest,
    edits.update_row,
    studies.evaluation_id,
    measurements.perplexity,
    base_perplexities.perplexity as perplexity_before,
    measurements.perplexity / base_perplexities.perplexity as perplexity_ratio,
    main.collapsed(
        main.perplexity_by(
            main.collapse_rule().measure,
            measurements.perplexity,
            measurements.nll_mean,
            measurements.perplexity_median
        ),
        main.perplexity_by(
            main.collapse_rule().measure,
            base_perplexities.perplexity,
            base_perplexities.nll_mean,
            base_perplexities.perplexity_median
        ),
        main.collapse_rule().threshold,
        main.collapse_rule().ratio
    ) as collapsed,
    measurements.perplexity_median,
    measurements.perplexity_max,
    measurements.nll_mean,
    base_perplexities.nll_mean as nll_mean_before,
    measurements.n_texts,
    measurements.efficacy,
    measurements.efficacy_one_prefix,
    measurements.efficacy_prefix_mean,
    measurements.efficacy_prefix_min,
    measurements.efficacy_prefix_max,
    measurements.prefix_index,
    measurements.generalization,
    measurements.locality,
    measurements.efficacy_score,
    measurements.efficacy_magnitude,
    measurements.paraphrase_score,
    measurements.paraphrase_magnitude,
    measurements.neighborhood_score,
    measurements.neighborhood_magnitude,
    measurements.target_new_nll,
    measurements.target_true_nll,
    base.efficacy as efficacy_before,
    base.efficacy_one_prefix as efficacy_one_prefix_before,
    base.efficacy_prefix_mean as efficacy_prefix_mean_before,
    base.generalization as generalization_before,
    base.locality as locality_before,
    base.efficacy_score as efficacy_score_before,
    base.efficacy_magnitude as efficacy_magnitude_before,
    base.paraphrase_score as paraphrase_score_before,
    base.paraphrase_magnitude as paraphrase_magnitude_before,
    base.neighborhood_score as neighborhood_score_before,
    base.neighborhood_magnitude as neighborhood_magnitude_before,
    base.target_new_nll as target_new_nll_before,
    base.target_true_nll as target_true_nll_before,
    edits.text_change,
    base_perplexities.perplexity_median as perplexity_median_before,
    exp(measurements.nll_mean - base_perplexities.nll_mean) as nll_ratio,
    measurements.perplexity_median / base_perplexities.perplexity_median as median_ratio,
    measurements.portability,
    measurements.n_portability_prompts,
    base.portability as portability_before
from main.studies
inner join main.study_edits on study_edits.study_id = studies.study_id
inner join main.edits on edits.edit_id = study_edits.edit_id
left join main.models on models.model_id = edits.model_id
left join main.study_models
    on study_models.study_id = studies.study_id
    and study_models.model_id = edits.model_id
    and study_models.layer = edits.layer
left join main.datasets on datasets.dataset_id = studies.dataset_id
left join main.covariances on covariances.covariance_id = edits.covariance_id
left join prefixed
    on prefixed.study_id = studies.study_id
    and prefixed.request_id = edits.request_id
left join study_requests
    on study_requests.dataset_id = coalesce(prefixed.dataset_id, studies.dataset_id)
    and study_requests.request_id = edits.request_id
left join main.positions
    on positions.model_id = edits.model_id
    and positions.request_id = edits.request_id
left join main.measurements
    on measurements.edit_id = edits.edit_id
    and measurements.evaluation_id = studies.evaluation_id
left join main.base_perplexities
    on base_perplexities.model_id = edits.model_id
    and base_perplexities.evaluation_id = studies.evaluation_id
left join main.base_measurements as base
    on base.model_id = edits.model_id
    and base.request_id = edits.request_id
    and base.evaluation_id = studies.evaluation_id
    and base.template_set_id = edits.template_set_id;

comment on view edit_outcomes is
    'One row for each edit of each study: request, position, diagnostics and measurements. NULL where the edit has not been measured yet.';
comment on column edit_outcomes.study is 'Name of the study. Text.';
comment on column edit_outcomes.study_id is 'Study: studies.study_id.';
comment on column edit_outcomes.study_kind is 'What the study was run as: studies.kind. Text. NULL as studies.kind.';
comment on column edit_outcomes.model is 'Name of the model in the study. Text.';
comment on column edit_outcomes.model_place is
    'Place of the model in the study file. Index from 0. NULL as study_models.place.';
comment on column edit_outcomes.model_id is 'Model: models.model_id.';
comment on column edit_outcomes.dataset is 'Name of the file of edit requests. Text.';
comment on column edit_outcomes.dataset_id is
    'The study''s dataset: datasets.dataset_id; also of a request that its guard put a text before.';
comment on column edit_outcomes.edit_id is 'Edit: edits.edit_id.';
comment on column edit_outcomes.layer is
    'Edited block; of a joint editor, which edits several, the last. Index from 0.';
comment on column edit_outcomes.covariance is
    'Kind of the second moment: corpus, identity or statistics. Text.';
comment on column edit_outcomes.covariance_id is 'Second moment: covariances.covariance_id.';
comment on column edit_outcomes.template_set_id is
    'Set of context templates: templates.template_set_id.';
comment on column edit_outcomes.settings_id is
    'Settings of the v* optimisation: value_settings.settings_id.';
comment on column edit_outcomes.record_index is
    'Place of the request in its file, the first where it stands there twice. Index from 0.';
comment on column edit_outcomes.case_id is
    'The dataset''s own name of the record. Text. NULL = it gives none.';
comment on column edit_outcomes.denominator is
    'a . u, signed, with ||u|| = 1: what the update divides by. No unit. NULL = not a rank-one method.';
comment on column edit_outcomes.rho is
    '(k0 . u) / (kbar . u), signed, by the method''s own u: one for all methods but p_rome, which solves with k0 and is compared with none of them by it; near 0 or negative forecasts ROME''s collapse. Ratio, no unit. NULL = not a rank-one method.';
comment on column edit_outcomes.bare_key_norm is
    '||k0||: norm of the bare prompt''s key. Norm, no unit. NULL = not a rank-one method.';
comment on column edit_outcomes.prefixed_key_norm is
    '||kbar||: norm of the mean key over the context templates. Norm, no unit. NULL = not a rank-one method.';
comment on column edit_outcomes.key_cosine is
    'Cosine of the angle between k0 and kbar. -1 to 1. NULL = not a rank-one method.';
comment on column edit_outcomes.bare_key_dot is
    'k0 . u, signed, by the method''s own u as rho: ROME''s denominator. No unit. NULL = not a rank-one method.';
comment on column edit_outcomes.prefixed_key_dot is
    'kbar . u, signed, by the method''s own u as rho: C-ROME''s denominator. No unit. NULL = not a rank-one method.';
comment on column edit_outcomes.bare_value_norm is
    '||v0||: norm of the unedited value at the bare prompt. Norm, no unit. NULL = not a rank-one method.';
comment on column edit_outcomes.evaluation_id is 'Evaluation: evaluations.evaluation_id.';
comment on column edit_outcomes.perplexity_before is
    'Perplexity of the unedited model on the same texts. No unit.';
comment on column edit_outcomes.perplexity_ratio is
    'perplexity / perplexity_before. Ratio, no unit; inf and nan are kept.';
comment on column edit_outcomes.collapsed is
    'Whether the edit collapsed the model by the default rule, macro collapse_rule; macro collapsed judges by any other, also a study''s own. Boolean. NULL = not measured.';
comment on column edit_outcomes.nll_mean_before is
    'nll_mean of the unedited model. Nats a token.';
comment on column edit_outcomes.n_texts is 'Texts measured. Count.';
comment on column edit_outcomes.efficacy_before is
    'efficacy of the unedited model. Fraction 0-1.';
comment on column edit_outcomes.efficacy_one_prefix_before is
    'efficacy_one_prefix of the unedited model. Fraction 0-1.';
comment on column edit_outcomes.efficacy_prefix_mean_before is
    'efficacy_prefix_mean of the unedited model. Fraction 0-1.';
comment on column edit_outcomes.generalization_before is
    'generalization of the unedited model. Fraction 0-1.';
comment on column edit_outcomes.locality_before is
    'locality of the unedited model. Fraction 0-1.';
comment on column edit_outcomes.efficacy_score_before is
    'efficacy_score of the unedited model. Fraction 0-1.';
comment on column edit_outcomes.efficacy_magnitude_before is
    'efficacy_magnitude of the unedited model. Difference of probabilities, -1 to 1.';
comment on column edit_outcomes.paraphrase_score_before is
    'paraphrase_score of the unedited model. Fraction 0-1.';
comment on column edit_outcomes.paraphrase_magnitude_before is
    'paraphrase_magnitude of the unedited model. Difference of probabilities, -1 to 1.';
comment on column edit_outcomes.neighborhood_score_before is
    'neighborhood_score of the unedited model. Fraction 0-1.';
comment on column edit_outcomes.neighborhood_magnitude_before is
    'neighborhood_magnitude of the unedited model. Difference of probabilities, -1 to 1.';
comment on column edit_outcomes.target_new_nll_before is
    'target_new_nll of the unedited model. Nats a token.';
comment on column edit_outcomes.target_true_nll_before is
    'target_true_nll of the unedited model. Nats a token.';
comment on column edit_outcomes.perplexity_median_before is
    'perplexity_median of the unedited model. No unit.';
comment on column edit_outcomes.nll_ratio is
    'exp(nll_mean) / exp(nll_mean_before): the perplexity ratio by exp(mean NLL), which no single text rules. Ratio, no unit; inf and nan are kept.';
comment on column edit_outcomes.median_ratio is
    'perplexity_median / perplexity_median_before. Ratio, no unit; inf and nan are kept.';
comment on column edit_outcomes.portability_before is
    'portability of the unedited model. Fraction 0-1.';
