-- Has C seen tokens enough for a verdict?
-- docs/results.md says how many are; NULL, as with the identity, has.
create macro forecast_supported(tokens_per_d_key) as
    coalesce(tokens_per_d_key >= 8.0, true);

-- Will this edit collapse the model, by its forecast and the newest calibration?
create macro forecast_verdict(bound, tokens_per_d_key, at_risk_at, collapse_at) as
    case
        when bound is null then null
        when not main.forecast_supported(tokens_per_d_key) then 'not known'
        when bound >= collapse_at or isnan(bound::double) then 'will collapse'
        when bound >= at_risk_at then 'at risk'
        else 'safe'
    end;

-- How likely is a collapse at a change bound? Logistic in log(bound). curve: a row of forecast_thresholds.
create macro collapse_probability(bound, curve) as
    case
        when bound is null or curve.slope is null then null
        when isnan(bound::double) or isinf(bound::double) then 1.0::double
        when bound <= 0 then 0.0::double
        else 1 / (1 + exp(-(curve.intercept + curve.slope * ln(bound::double))))
    end;

-- Between which ends does it lie? share: 0.025 and 0.975 are those of the 95 % interval.
create macro collapse_probability_quantile(bound, curve, share) as
    case
        when bound is null or curve.slope is null then null
        when isnan(bound::double) or isinf(bound::double) then 1.0::double
        when bound <= 0 then 0.0::double
        else 1 / (1 + exp(-list_aggregate(
            list_transform(
                list_zip(curve.intercepts, curve.slopes),
                lambda drawn: drawn[1] + drawn[2] * ln(bound::double)
            ),
            'quantile_cont',
            share
        )))
    end;

-- By what are models judged that have no calibration? storage.schema writes in what follows from the
-- measured edits that the package carries.
create macro default_thresholds() as {$default_thresholds};

-- The default stands until there is a calibration of the very model.
create view forecast_thresholds as
with newest as (
    select distinct on (model_id) *
    from main.forecast_calibrations
    where model_id is not null
    order by model_id, calibrated_at desc, calibration_id
),
known_models as (
    select model_id from main.forecasts
    union
    select model_id from newest
    union all
    select null
),
judged as (
    select
        known_models.model_id as known_id,
        newest.*,
        newest.calibration_id is null as is_default
    from known_models
    left join newest on newest.model_id = known_models.model_id
)
select
    known_id as model_id,
    coalesce(calibration_id, 'default') as calibration_id,
    calibrated_at,
    if(is_default, main.default_thresholds().at_risk_at, at_risk_at) as at_risk_at,
    if(is_default, main.default_thresholds().collapse_at, collapse_at) as collapse_at,
    coalesce(n_edits, 0) as n_edits,
    coalesce(n_collapsed, 0) as n_collapsed,
    is_default,
    if(is_default, main.default_thresholds().never_safe_from, never_safe_from) as never_safe_from,
    if(is_default, main.default_thresholds().intercept, intercept) as intercept,
    if(is_default, main.default_thresholds().slope, slope) as slope,
    if(is_default, main.default_thresholds().intercepts, intercepts) as intercepts,
    if(is_default, main.default_thresholds().slopes, slopes) as slopes
from judged;

-- One folder may stand in a study twice, with and without its start token: its source is no name.
create view model_names as
with named as (
    select model_id, string_agg(distinct name, ', ' order by name) as name
    from main.study_models
    group by model_id
)
select
    model_id,
    coalesce(
        named.name, models.source || coalesce(' with start token ' || models.start_token, '')
    ) as model
from main.models
full join named using (model_id);

create view forecast_verdicts as
with known_requests as (
    select distinct on (request_id) *
    from main.requests
    order by request_id, dataset_id, record_index
)
select
    model_names.model,
    models.source as model_source,
    forecasts.model_id,
    forecasts.layer,
    forecasts.method,
    forecasts.edit_id,
    forecasts.request_id,
    known_requests.case_id,
    known_requests.subject,
    known_requests.prompt,
    known_requests.target_new,
    positions.subject_position,
    positions.is_first_token,
    positions.subject_last_token,
    forecasts.denominator,
    forecasts.rho,
    forecasts.bare_key_dot,
    forecasts.certified_bound,
    forecasts.relative_bound,
    forecasts.text_change_bound,
    main.forecast_verdict(
        forecasts.text_change_bound,
        forecasts.tokens_per_d_key,
        thresholds.at_risk_at,
        thresholds.collapse_at
    ) as verdict,
    thresholds.calibration_id,
    forecasts.n_tokens,
    forecasts.tokens_per_d_key,
    case
        when main.forecast_supported(forecasts.tokens_per_d_key)
            then main.collapse_probability(forecasts.text_change_bound, thresholds)
    end as probability,
    -- NULL where probability is.
    least(
        probability,
        probability * 0 + main.collapse_probability_quantile(
            forecasts.text_change_bound, thresholds, 0.025
        )
    ) as probability_low,
    greatest(
        probability,
        probability * 0 + main.collapse_probability_quantile(
            forecasts.text_change_bound, thresholds, 0.975
        )
    ) as probability_high
from main.forecasts
inner join main.forecast_thresholds as thresholds on thresholds.model_id = forecasts.model_id
left join main.models on models.model_id = forecasts.model_id
left join main.model_names on model_names.model_id = forecasts.model_id
left join known_requests on known_requests.request_id = forecasts.request_id
left join main.positions
    on positions.model_id = forecasts.model_id and positions.request_id = forecasts.request_id
order by forecasts.model_id, forecasts.layer, forecasts.method, forecasts.text_change_bound desc;

comment on macro forecast_supported is
    'Whether a C with so many tokens for each of its dimensions has enough of them for a verdict; NULL, as with the identity, has. Boolean.';
comment on macro forecast_verdict is
    'will collapse (likely to), at risk, safe, or not known where C has too few tokens, of a bound, the tokens for each dimension of C, and two thresholds; a bound of nan will collapse, NULL gives NULL.';
comment on macro collapse_probability is
    'P(collapse) at a change bound: logistic in log(bound), with a row of forecast_thresholds as curve. 1 at inf and nan; NULL where bound or curve is NULL.';
comment on macro collapse_probability_quantile is
    'The same, of the bootstrap''s curves: a quantile of P(collapse); 0.025 and 0.975 are the ends of its 95 % interval.';
comment on macro default_thresholds is
    'What verdicts on a model without a calibration rest on: thresholds and curve of the measured edits that the package carries.';
comment on view forecast_thresholds is
    'The thresholds that verdicts use: a model''s newest of forecast_calibrations, or the default where it has none. One row a model, and one for models that are not known yet.';
comment on column forecast_thresholds.model_id is
    'Model: models.model_id. NULL = any model that has neither forecast nor calibration.';
comment on column forecast_thresholds.calibration_id is
    'Calibration: forecast_calibrations.calibration_id, or the word default.';
comment on column forecast_thresholds.is_default is
    'Whether the model has no calibration: the thresholds are a default. Boolean.';
comment on column forecast_thresholds.n_edits is
    'Measured edits with a forecast that the calibration was taken from; 0 with the default. Count.';
comment on column forecast_thresholds.n_collapsed is 'Of these, edits that collapsed. Count.';
comment on view model_names is
    'What a model is called: its name in the studies, one or several; where no study is recorded, its source and start token.';
comment on column model_names.model_id is 'Model: models.model_id.';
comment on column model_names.model is
    'Name of the model in the studies, joined by commas where they differ. Text.';
comment on view forecast_verdicts is
    'Every forecast with its request and its verdict; one row an edit that was foreseen, made or not.';
comment on column forecast_verdicts.model is
    'Name of the model: model_names.model. Text. NULL = neither the model nor a study of it is recorded.';
comment on column forecast_verdicts.model_source is
    'Hub id or folder name of the model. Text. NULL = the model''s row is not recorded.';
comment on column forecast_verdicts.model_id is 'Model: models.model_id.';
comment on column forecast_verdicts.layer is 'Edited block. Index from 0.';
comment on column forecast_verdicts.edit_id is 'Edit: edits.edit_id.';
comment on column forecast_verdicts.case_id is
    'The dataset''s own name of the record. Text. NULL = it gives none.';
comment on column forecast_verdicts.denominator is
    'a . u, signed, with ||u|| = 1: what the update divides by. No unit.';
comment on column forecast_verdicts.rho is
    '(k0 . u) / (kbar . u), signed, by the method''s own u: one for all methods but p_rome, which solves with k0 and is compared with none of them by it; near 0 or negative forecasts ROME''s collapse. Ratio, no unit.';
comment on column forecast_verdicts.bare_key_dot is
    'k0 . u, signed, by the method''s own u as rho: ROME''s denominator. No unit.';
comment on column forecast_verdicts.verdict is
    'will collapse (likely to), at risk, safe, or not known where C has too few tokens. Text.';
comment on column forecast_verdicts.calibration_id is
    'Whose thresholds the verdict uses: forecast_thresholds.calibration_id.';
comment on column forecast_verdicts.probability is
    'P(collapse) by the curve of forecast_thresholds. Fraction 0-1. NULL = the calibration has no curve, or C has too few tokens.';
comment on column forecast_verdicts.probability_low is
    'Lower end of the 95 % interval of probability. Fraction 0-1. NULL as probability.';
comment on column forecast_verdicts.probability_high is
    'Upper end of the 95 % interval of probability. Fraction 0-1. NULL as probability.';
comment on column forecast_verdicts.n_tokens is
    'Tokens of C: forecasts.n_tokens. Count. NULL = the identity, or forecast by an earlier version.';
comment on column forecast_verdicts.tokens_per_d_key is
    'The same for each dimension of C: forecasts.tokens_per_d_key. Tokens a dimension. NULL as n_tokens.';
