-- Are the edited models that were checked still alive, whoever made them?
-- The view asks with the default rule, the macro of the same name with any other:
--     from check_outcomes;
--     from check_outcomes(threshold := 500, ratio := null);
create macro check_outcomes(
    threshold := main.collapse_rule().threshold,
    ratio := main.collapse_rule().ratio,
    measure := main.collapse_rule().measure
) as table
with measured as (
    select
        *,
        main.perplexity_by(measure, perplexity_before, nll_mean_before, perplexity_median_before)
            as before_by_measure,
        main.perplexity_by(measure, perplexity, nll_mean, perplexity_median) as after_by_measure
    from main.checks
),
scores as (
    select
        check_id,
        count(*) filter (where side = 'after') as n_requests,
        avg(efficacy) filter (where side = 'before') as efficacy_before,
        avg(efficacy) filter (where side = 'after') as efficacy,
        avg(generalization) filter (where side = 'before') as generalization_before,
        avg(generalization) filter (where side = 'after') as generalization,
        avg(locality) filter (where side = 'after') as locality
    from main.check_scores
    group by check_id
)
select
    check_names.name,
    measured.model_source as base,
    check_names.edited_source as edited,
    measured.method,
    measured.kind,
    measured.n_changed,
    measured.relative_norm,
    measured.text_change,
    measured.text_change_tensor,
    measured.n_unknown,
    measured.forecast,
    measured.forecast_probability,
    measured.before_by_measure as perplexity_before,
    measured.after_by_measure as perplexity,
    measured.after_by_measure / measured.before_by_measure as perplexity_ratio,
    case
        when measured.n_not_finite > 0 then true
        else main.collapsed(
            measured.after_by_measure, measured.before_by_measure, threshold, ratio
        )
    end as collapsed,
    coalesce(scores.n_requests, 0) as n_requests,
    scores.efficacy_before,
    scores.efficacy,
    scores.generalization_before,
    scores.generalization,
    scores.locality,
    measured.model_id,
    measured.check_id
from main.check_names
inner join measured on check_names.check_id = measured.check_id
left join scores on check_names.check_id = scores.check_id
order by check_names.name, measured.check_id;

create view check_outcomes as
select * from main.check_outcomes();

comment on macro table check_outcomes is
    'Edited models that were checked, with the rule of collapse as argument.';
comment on view check_outcomes is
    'Edited models that were checked against the one that each was made from: what differs, what it changes on text, perplexity and facts before and after; one row a name; default rule of collapse.';
comment on column check_outcomes.name is 'What who asked calls the edited model. Text.';
comment on column check_outcomes.base is 'The unedited model: checks.model_source. Text.';
comment on column check_outcomes.edited is 'The edited one: check_names.edited_source. Text.';
comment on column check_outcomes.method is 'Always external. Text.';
comment on column check_outcomes.kind is 'model, adapter or delta. Text.';
comment on column check_outcomes.n_changed is 'Tensors that differ. Count.';
comment on column check_outcomes.relative_norm is
    'Norm of the difference over that of the tensors that differ. Ratio.';
comment on column check_outcomes.text_change is
    'The largest change of a linear map''s output on text. Ratio, no unit. NULL = not known.';
comment on column check_outcomes.text_change_tensor is 'The tensor that has it. Text. NULL likewise.';
comment on column check_outcomes.n_unknown is
    'Tensors that differ and have no known change on text. Count.';
comment on column check_outcomes.forecast is
    'at risk, will collapse or not known, from the difference alone. Text.';
comment on column check_outcomes.forecast_probability is
    'P(collapse) of an edit of ROME''s family with such a change. Fraction 0-1. NULL = not known.';
comment on column check_outcomes.perplexity_before is
    'Of the unedited model, by the rule''s measure. exp(nats). NULL = not measured.';
comment on column check_outcomes.perplexity is
    'Of the edited model, by the rule''s measure. exp(nats). NULL = not measured.';
comment on column check_outcomes.perplexity_ratio is
    'perplexity over perplexity_before. Ratio. NULL = not measured.';
comment on column check_outcomes.collapsed is
    'Whether the model has collapsed, by the rule or as weights are no finite numbers. Boolean. NULL = perplexity was not measured.';
comment on column check_outcomes.n_requests is 'Requests that both models were asked. Count.';
comment on column check_outcomes.efficacy_before is
    'Target tokens that the unedited model predicts, mean over requests. Fraction 0-1. NULL = no request.';
comment on column check_outcomes.efficacy is
    'Target tokens that the edited model predicts, mean over requests. Fraction 0-1. NULL = no request.';
comment on column check_outcomes.generalization_before is
    'The same behind paraphrases, unedited. Fraction 0-1. NULL = no paraphrase.';
comment on column check_outcomes.generalization is
    'The same behind paraphrases, edited. Fraction 0-1. NULL = no paraphrase.';
comment on column check_outcomes.locality is
    'Tokens of neighbourhood answers that stay, mean over requests. Fraction 0-1. NULL = no such prompt.';
comment on column check_outcomes.model_id is 'The unedited model: checks.model_id.';
comment on column check_outcomes.check_id is 'Check: checks.check_id.';
