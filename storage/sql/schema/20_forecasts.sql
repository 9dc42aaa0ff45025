-- What is known of edits before they are made, and what a forecast's thresholds were taken from.

create table forecasts (
    edit_id varchar not null,
    model_id varchar not null,
    request_id varchar not null,
    covariance_id varchar not null,
    template_set_id varchar not null,
    settings_id varchar not null,
    method varchar not null,
    layer bigint not null,
    layer_source varchar not null,
    denominator double not null,
    rho double not null,
    bare_key_norm double not null,
    prefixed_key_norm double not null,
    key_cosine double not null,
    bare_key_dot double not null,
    prefixed_key_dot double not null,
    bare_value_norm double not null,
    numerator_bound double not null,
    certified_bound double not null,
    relative_bound double not null,
    text_change_bound double not null,
    n_tokens bigint,
    tokens_per_d_key double
);
comment on table forecasts is 'Edits before they are made, from keys and C alone: no v* was optimised. The same edit, if it is made, has the same edit_id in table edits.';
comment on column forecasts.edit_id is 'Digest of the model, request, method and all settings. Key.';
comment on column forecasts.model_id is 'Model: models.model_id.';
comment on column forecasts.request_id is
    'Edit request: requests.request_id, a digest of its content.';
comment on column forecasts.covariance_id is 'Second moment: covariances.covariance_id.';
comment on column forecasts.template_set_id is
    'Set of context templates: templates.template_set_id.';
comment on column forecasts.settings_id is
    'Settings of the v* optimisation: value_settings.settings_id.';
comment on column forecasts.method is
    'rome, c_rome, r_rome, p_rome or v_relative: which key is b and a, and what r is; of edits that are made, not foreseen, another editor too: memit, memit_seq, emmet, alphaedit, rect, prune, encore, nas, ft, ft_l, ft_m or locft_bf. Text.';
comment on column forecasts.layer is 'Edited block. Index from 0.';
comment on column forecasts.layer_source is
    'Who chose the layer: the study file or a preset. Text.';
comment on column forecasts.denominator is
    'a . u, signed, with ||u|| = 1: what the update divides by. No unit.';
comment on column forecasts.rho is
    '(k0 . u) / (kbar . u), signed, by the method''s own u: one for all methods but p_rome, which solves with k0 and is compared with none of them by it; near 0 or negative forecasts ROME''s collapse. Ratio, no unit.';
comment on column forecasts.bare_key_norm is '||k0||: norm of the bare prompt''s key. Norm, no unit.';
comment on column forecasts.prefixed_key_norm is
    '||kbar||: norm of the mean key over the context templates. Norm, no unit.';
comment on column forecasts.key_cosine is 'Cosine of the angle between k0 and kbar. -1 to 1.';
comment on column forecasts.bare_key_dot is 'k0 . u, signed, by the method''s own u as rho: ROME''s denominator. No unit.';
comment on column forecasts.prefixed_key_dot is 'kbar . u, signed, by the method''s own u as rho: C-ROME''s denominator. No unit.';
comment on column forecasts.bare_value_norm is
    '||v0||: norm of the unedited value at the bare prompt. Norm, no unit.';
comment on column forecasts.numerator_bound is
    'Upper bound of the edit''s numerator_norm ||r||: clamp_factor * ||v0||, and for methods that write to the prefixed value + ||v0 - vbar||. Norm, no unit.';
comment on column forecasts.certified_bound is
    'numerator_bound / |a . u|: upper bound of the edit''s update_norm by this method, whatever v* will be. Norm, no unit; inf where the denominator is 0.';
comment on column forecasts.relative_bound is
    'certified_bound / ||W||, Frobenius. Ratio, no unit; inf where the denominator is 0.';
comment on column forecasts.text_change_bound is
    'certified_bound * sqrt(uT C u) / sqrt(tr(W C WT)): upper bound of the change of the layer''s W k, root mean square over the keys of C, in units of W k''s own; what verdicts look at. With the identity as C it is relative_bound. Ratio, no unit; inf where the denominator is 0.';
comment on column forecasts.n_tokens is
    'Tokens of the C that the forecast rests on. Count. NULL = the identity, or forecast by an earlier version.';
comment on column forecasts.tokens_per_d_key is
    'n_tokens over d_key, the dimensions of C. Tokens a dimension. NULL as n_tokens.';

create table forecast_calibrations (
    calibration_id varchar not null,
    calibrated_at varchar not null,
    data_digest varchar not null,
    collapse_threshold double,
    collapse_ratio double,
    wanted_recall double not null,
    wanted_precision double not null,
    n_edits bigint not null,
    n_collapsed bigint not null,
    n_models bigint not null,
    numerics bigint not null,
    auc double not null,
    largest_normal double not null,
    smallest_collapsed double not null,
    at_risk_at double not null,
    collapse_at double not null
);
comment on table forecast_calibrations is 'Thresholds of the forecast''s verdicts, each with what it was taken from; the newest counts.';
comment on column forecast_calibrations.calibration_id is
    'Digest of the data, the rule of collapse and what was wanted. Key.';
comment on column forecast_calibrations.calibrated_at is 'When. ISO 8601, UTC.';
comment on column forecast_calibrations.data_digest is
    'Digest of the edits, their text_change_bound and whether each collapsed. Hex digits.';
comment on column forecast_calibrations.collapse_threshold is
    'Rule of collapse: perplexity above this. No unit. NULL = left out.';
comment on column forecast_calibrations.collapse_ratio is
    'Rule of collapse: perplexity above so many times the unedited model''s. Ratio. NULL = left out.';
comment on column forecast_calibrations.wanted_recall is
    'Share of the collapsed edits that at_risk_at has to catch. Fraction 0-1.';
comment on column forecast_calibrations.wanted_precision is
    'Share of the edits from collapse_at on that have to have collapsed. Fraction 0-1.';
comment on column forecast_calibrations.n_edits is 'Measured edits with a forecast. Count.';
comment on column forecast_calibrations.n_collapsed is 'Of these, edits that collapsed. Count.';
comment on column forecast_calibrations.n_models is 'Models that they are of. Count.';
comment on column forecast_calibrations.numerics is
    'Version of the numbers (editcollapse.NUMERICS); only equal versions compare. Integer.';
comment on column forecast_calibrations.auc is
    'Chance that a collapsed edit has a larger text_change_bound than one that did not collapse; ties count half (area under the ROC curve). Fraction 0-1.';
comment on column forecast_calibrations.largest_normal is
    'Largest text_change_bound of an edit that did not collapse. Ratio, no unit.';
comment on column forecast_calibrations.smallest_collapsed is
    'Smallest text_change_bound of an edit that collapsed. Ratio, no unit.';
comment on column forecast_calibrations.at_risk_at is
    'text_change_bound from which on an edit is at risk: never_safe_from, or where P(collapse) reaches safe_below if that is smaller. Ratio, no unit.';
comment on column forecast_calibrations.collapse_at is
    'text_change_bound from which on an edit is likely to collapse: the smallest with the wanted precision, and not below at_risk_at. Ratio, no unit; inf where none has it.';
