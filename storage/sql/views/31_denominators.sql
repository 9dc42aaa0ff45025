-- How small are the denominators, and how large the updates, of edits that collapse and of others?
-- The view asks with the default rule, the macro of the same name with any other:
--     from denominators;
--     from denominators(threshold := 500, ratio := null);
-- Single edits and re-evaluations are left out unless kinds asks for them.
create macro denominators(
    threshold := main.collapse_rule().threshold,
    ratio := main.collapse_rule().ratio,
    measure := main.collapse_rule().measure,
    kinds := ['study']
) as table
with judged as (
    select
        study,
        study_id,
        model,
        model_place,
        method,
        subject_position,
        case main.collapsed(
            main.perplexity_by(measure, perplexity, nll_mean, perplexity_median),
            main.perplexity_by(
                measure, perplexity_before, nll_mean_before, perplexity_median_before
            ),
            threshold,
            ratio
        )
            when true then 'collapsed'
            when false then 'normal'
            else 'not measured'
        end as outcome,
        unnest([
            {'quantity': 'abs_denominator', 'amount': abs(denominator)},
            {'quantity': 'numerator_norm', 'amount': numerator_norm},
            {'quantity': 'rho', 'amount': rho},
            {'quantity': 'update_norm', 'amount': update_norm},
            {'quantity': 'relative_update_norm', 'amount': relative_update_norm},
            {'quantity': 'update_norm_bound', 'amount': update_norm_bound}
        ]) as measured
    from main.edit_outcomes
    where kinds is null or list_contains(kinds, study_kind)
)
select
    study,
    study_id,
    model,
    method,
    subject_position,
    outcome,
    measured.quantity as quantity,
    count(*) as n,
    min(measured.amount) as minimum,
    quantile_cont(measured.amount, 0.25) as lower_quartile,
    median(measured.amount) as median,
    quantile_cont(measured.amount, 0.75) as upper_quartile,
    max(measured.amount) as maximum
from judged
-- Only rank-one methods divide by anything.
where measured.amount is not null
group by
    study, study_id, model, model_place, method, subject_position, outcome, measured.quantity
order by
    study, study_id, model_place, model, main.method_order(method), method,
    main.position_order(subject_position), subject_position, outcome, quantity;

create view denominators as
select * from main.denominators();

comment on macro table denominators is
    'Spread of the denominators, numerators and update norms, with the rule of collapse as argument; kinds as collapse_incidence has it.';
comment on view denominators is
    'Spread of the denominators, numerators and update norms of collapsed and of normal edits, one row a quantity that the method has; default rule of collapse.';
comment on column denominators.study is 'Name of the study. Text.';
comment on column denominators.study_id is 'Study: studies.study_id.';
comment on column denominators.model is 'Name of the model in the study. Text.';
comment on column denominators.outcome is 'collapsed, normal or not measured. Text.';
comment on column denominators.quantity is
    'abs_denominator (|a . u|), numerator_norm, rho, update_norm, relative_update_norm or update_norm_bound; table edits has their meaning, and says why p_rome''s rho is another. Text.';
comment on column denominators.n is 'Edits that have the quantity. Count.';
comment on column denominators.minimum is 'Smallest value. Unit of the quantity.';
comment on column denominators.lower_quartile is 'First quartile, interpolated. Unit of the quantity.';
comment on column denominators.median is 'Median, interpolated. Unit of the quantity.';
comment on column denominators.upper_quartile is 'Third quartile, interpolated. Unit of the quantity.';
comment on column denominators.maximum is 'Largest value. Unit of the quantity.';
