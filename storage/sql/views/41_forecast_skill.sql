-- How good is the forecast, beside what the edits, made and measured, turned out to do?
create view forecast_outcomes as
select
    outcomes.study,
    outcomes.study_id,
    outcomes.study_kind,
    outcomes.model,
    outcomes.model_id,
    outcomes.model_place,
    outcomes.method,
    outcomes.edit_id,
    outcomes.evaluation_id,
    outcomes.request_id,
    outcomes.subject_position,
    forecasts.certified_bound,
    forecasts.relative_bound,
    forecasts.text_change_bound,
    forecasts.tokens_per_d_key,
    outcomes.update_norm,
    outcomes.update_norm / forecasts.certified_bound as bound_reached,
    outcomes.perplexity,
    outcomes.perplexity_before,
    outcomes.perplexity_ratio,
    outcomes.nll_mean,
    outcomes.nll_mean_before,
    outcomes.perplexity_median,
    outcomes.perplexity_median_before,
    outcomes.text_change
from main.edit_outcomes as outcomes
inner join main.forecasts on forecasts.edit_id = outcomes.edit_id
where outcomes.perplexity is not null;

-- The view asks with the default rule of collapse, the macro of the same name with any other:
--     from forecast_skill;
--     from forecast_skill(threshold := 500, ratio := null);
-- Single edits and re-evaluations are left out unless kinds asks for them.
create macro forecast_skill(
    threshold := main.collapse_rule().threshold,
    ratio := main.collapse_rule().ratio,
    measure := main.collapse_rule().measure,
    kinds := ['study']
) as table
with judged as (
    select
        study,
        study_id,
        unnest([model, '(all)']) as model,
        model_id,
        model_place,
        method,
        text_change_bound,
        tokens_per_d_key,
        main.collapsed(
            main.perplexity_by(measure, perplexity, nll_mean, perplexity_median),
            main.perplexity_by(
                measure, perplexity_before, nll_mean_before, perplexity_median_before
            ),
            threshold,
            ratio
        ) as is_collapsed
    from main.forecast_outcomes
    where kinds is null or list_contains(kinds, study_kind)
),
spread as (
    select * replace (unnest([method, '(all)']) as method) from judged
),
ranked as (
    select
        spread.*,
        -- Rank among all edits of the group, ties sharing theirs.
        rank() over (partition by study_id, model, method order by text_change_bound)
        + (count(*) over (partition by study_id, model, method, text_change_bound) - 1) / 2.0
            as place,
        thresholds.at_risk_at,
        thresholds.collapse_at,
        main.forecast_verdict(
            text_change_bound, tokens_per_d_key, thresholds.at_risk_at, thresholds.collapse_at
        ) as verdict,
        case
            when main.forecast_supported(tokens_per_d_key)
                then main.collapse_probability(text_change_bound, thresholds)
        end as probability
    from spread
    inner join main.forecast_thresholds as thresholds on thresholds.model_id = spread.model_id
),
counted as (
    select
        study,
        study_id,
        model,
        method,
        min(model_place) filter (where model <> '(all)') as model_place,
        case when min(at_risk_at) = max(at_risk_at) then min(at_risk_at) end as at_risk_at,
        case when min(collapse_at) = max(collapse_at) then min(collapse_at) end as collapse_at,
        count(*) as n_edits,
        count(*) filter (where is_collapsed) as n_collapsed,
        count(*) filter (where verdict <> 'safe') as n_flagged,
        count(*) filter (where verdict <> 'safe' and is_collapsed) as n_flagged_collapsed,
        count(*) filter (where verdict = 'will collapse') as n_certain,
        count(*) filter (where verdict = 'will collapse' and is_collapsed) as n_certain_collapsed,
        avg((probability - is_collapsed::integer) ** 2) as brier,
        count(*) filter (where verdict = 'not known') as n_not_known,
        coalesce(sum(place) filter (where is_collapsed), 0) as places
    from ranked
    group by all
)
select
    study,
    study_id,
    model,
    method,
    n_edits,
    n_collapsed,
    case
        when n_collapsed = 0 or n_collapsed = n_edits then null
        else (places - n_collapsed * (n_collapsed + 1) / 2.0)
            / (n_collapsed * (n_edits - n_collapsed))
    end::double as auc,
    at_risk_at,
    n_flagged,
    n_flagged_collapsed / nullif(n_flagged, 0)::double as precision,
    main.wilson_low(n_flagged_collapsed, n_flagged) as precision_low,
    main.wilson_high(n_flagged_collapsed, n_flagged) as precision_high,
    n_flagged_collapsed / nullif(n_collapsed, 0)::double as recall,
    main.wilson_low(n_flagged_collapsed, n_collapsed) as recall_low,
    main.wilson_high(n_flagged_collapsed, n_collapsed) as recall_high,
    collapse_at,
    n_certain,
    n_certain_collapsed / nullif(n_certain, 0)::double as certain_precision,
    main.wilson_low(n_certain_collapsed, n_certain) as certain_precision_low,
    main.wilson_high(n_certain_collapsed, n_certain) as certain_precision_high,
    n_certain_collapsed / nullif(n_collapsed, 0)::double as certain_recall,
    main.wilson_low(n_certain_collapsed, n_collapsed) as certain_recall_low,
    main.wilson_high(n_certain_collapsed, n_collapsed) as certain_recall_high,
    n_not_known,
    brier
from counted
order by study, study_id, model_place, model, main.method_order(method), method;

create view forecast_skill as
select * from main.forecast_skill();

comment on view forecast_outcomes is
    'Edits that were foreseen, made and measured: the forecast beside the outcome. One row an edit of a study.';
comment on column forecast_outcomes.study is 'Name of the study. Text.';
comment on column forecast_outcomes.study_id is 'Study: studies.study_id.';
comment on column forecast_outcomes.study_kind is
    'What the study was run as: studies.kind. Text. NULL as studies.kind.';
comment on column forecast_outcomes.model_place is
    'Place of the model in the study file. Index from 0. NULL as study_models.place.';
comment on column forecast_outcomes.model is 'Name of the model in the study. Text.';
comment on column forecast_outcomes.model_id is 'Model: models.model_id.';
comment on column forecast_outcomes.edit_id is 'Edit: edits.edit_id.';
comment on column forecast_outcomes.evaluation_id is 'Evaluation: evaluations.evaluation_id.';
comment on column forecast_outcomes.perplexity_before is
    'Perplexity of the unedited model on the same texts. No unit.';
comment on column forecast_outcomes.perplexity_ratio is
    'perplexity / perplexity_before. Ratio, no unit; inf and nan are kept.';
comment on column forecast_outcomes.nll_mean_before is
    'nll_mean of the unedited model. Nats a token.';
comment on column forecast_outcomes.perplexity_median_before is
    'perplexity_median of the unedited model. No unit.';
comment on column forecast_outcomes.bound_reached is
    'update_norm / certified_bound: never above 1 but for rounding. Fraction 0-1.';
comment on macro table forecast_skill is
    'How well text_change_bound tells edits that collapse from others, with the rule of collapse as argument; thresholds are those of forecast_thresholds; kinds as collapse_incidence has it.';
comment on view forecast_skill is
    'How well text_change_bound tells edits that collapse from others, by study, model and method; (all) takes models or methods together. Default rule of collapse; thresholds are those of forecast_thresholds.';
comment on column forecast_skill.study is 'Name of the study. Text.';
comment on column forecast_skill.study_id is 'Study: studies.study_id.';
comment on column forecast_skill.model is
    'Name of the model in the study; (all) is all of the study''s. Text.';
comment on column forecast_skill.method is 'Method of the edits; (all) is all of the study''s. Text.';
comment on column forecast_skill.n_edits is 'Measured edits with a forecast. Count.';
comment on column forecast_skill.n_collapsed is 'Of these, edits that collapsed. Count.';
comment on column forecast_skill.auc is
    'Chance that a collapsed edit has a larger text_change_bound than one that did not collapse; ties count half (area under the ROC curve). Fraction 0-1. NULL = one of the two kinds is missing.';
comment on column forecast_skill.n_flagged is
    'Edits with the verdict at risk, will collapse or not known. Count.';
comment on column forecast_skill.precision is
    'Share of the flagged edits that collapsed. Fraction 0-1. NULL = none is flagged.';
comment on column forecast_skill.precision_low is
    'Lower end of the 95 % Wilson interval of precision. Fraction 0-1.';
comment on column forecast_skill.precision_high is
    'Upper end of the 95 % Wilson interval of precision. Fraction 0-1.';
comment on column forecast_skill.recall is
    'Share of the collapsed edits that are flagged. Fraction 0-1. NULL = none collapsed.';
comment on column forecast_skill.recall_low is
    'Lower end of the 95 % Wilson interval of recall. Fraction 0-1.';
comment on column forecast_skill.recall_high is
    'Upper end of the 95 % Wilson interval of recall. Fraction 0-1.';
comment on column forecast_skill.at_risk_at is
    'text_change_bound from which on an edit is at risk. Ratio, no unit. NULL = the models have different ones.';
comment on column forecast_skill.collapse_at is
    'text_change_bound from which on an edit is likely to collapse. Ratio, no unit; inf where no bound is sure enough. NULL = the models have different ones.';
comment on column forecast_skill.n_certain is 'Edits with the verdict will collapse (likely to). Count.';
comment on column forecast_skill.certain_precision is
    'Share of the edits with the verdict will collapse that did. Fraction 0-1. NULL = there are none.';
comment on column forecast_skill.certain_precision_low is
    'Lower end of the 95 % Wilson interval of certain_precision. Fraction 0-1.';
comment on column forecast_skill.certain_precision_high is
    'Upper end of the 95 % Wilson interval of certain_precision. Fraction 0-1.';
comment on column forecast_skill.certain_recall is
    'Share of the collapsed edits with the verdict will collapse. Fraction 0-1. NULL = none collapsed.';
comment on column forecast_skill.certain_recall_low is
    'Lower end of the 95 % Wilson interval of certain_recall. Fraction 0-1.';
comment on column forecast_skill.certain_recall_high is
    'Upper end of the 95 % Wilson interval of certain_recall. Fraction 0-1.';
comment on column forecast_skill.brier is
    'Mean squared difference of P(collapse), by the curve of forecast_thresholds, and outcome; 0 is perfect. 0-1. NULL = the calibration has no curve.';
comment on column forecast_skill.n_not_known is
    'Edits with the verdict not known: C has too few tokens. Count.';
comment on column forecast_outcomes.tokens_per_d_key is
    'Tokens of C for each of its dimensions: forecasts.tokens_per_d_key. Tokens a dimension. NULL = the identity, or forecast by an earlier version.';
