-- How often does each method collapse each model, wherever the subject stands?
-- The view asks with the default rule, the macro of the same name with any other:
--     from collapse_by_method;
--     from collapse_by_method(threshold := 500, ratio := null);
--     from collapse_by_method(measure := 'nll');
create macro collapse_by_method(
    threshold := main.collapse_rule().threshold,
    ratio := main.collapse_rule().ratio,
    measure := main.collapse_rule().measure,
    kinds := ['study']
) as table
with by_subject as (
    select
        study,
        study_id,
        model,
        method,
        subject,
        count(*) as n,
        count(*) filter (where is_collapsed) as k,
        count(*) filter (where is_by_mean) as n_by_mean,
        count(*) filter (where is_by_nll) as n_by_nll,
        count(*) filter (where is_by_median) as n_by_median,
        max(perplexity_ratio) as largest
    from main.judged_edits(
        threshold := threshold, ratio := ratio, measure := measure, kinds := kinds
    )
    where is_collapsed is not null
    group by all
),
counted as (
    select
        study,
        study_id,
        model,
        method,
        sum(k)::bigint as n_collapsed,
        sum(n)::bigint as n_edits,
        count(*) as n_subjects,
        main.independent_draws(sum(k), sum(n), count(*), sum(k * k), sum(k * n), sum(n * n)) as draws,
        max(largest) as max_perplexity_ratio,
        sum(n_by_mean)::bigint as n_by_mean,
        sum(n_by_nll)::bigint as n_by_nll,
        sum(n_by_median)::bigint as n_by_median
    from by_subject
    group by all
)
select
    study,
    model,
    method,
    n_collapsed,
    n_edits,
    n_subjects,
    n_collapsed / n_edits::double as share,
    main.wilson_low(share * draws, draws) as wilson_low,
    main.wilson_high(share * draws, draws) as wilson_high,
    max_perplexity_ratio,
    n_by_mean,
    n_by_nll,
    n_by_median,
    study_id
from counted
order by
    study, study_id, main.model_order(study_id, model), model, main.method_order(method), method;

create view collapse_by_method as
select * from main.collapse_by_method();

comment on macro table collapse_by_method is
    'Share of edits that collapse the model by model and method, with the rule as argument, and kinds as collapse_incidence has it.';
comment on view collapse_by_method is
    'Share of edits that collapse the model by model and method of each study; default rule of collapse.';
comment on column collapse_by_method.study is 'Name of the study. Text.';
comment on column collapse_by_method.model is 'Name of the model in the study. Text.';
comment on column collapse_by_method.n_collapsed is 'Of these, edits that collapse. Count.';
comment on column collapse_by_method.n_edits is
    'Edits measured so far; those not measured are left out. Count.';
comment on column collapse_by_method.n_subjects is
    'Subjects that the edits are of; edits of one subject are no independent draws. Count.';
comment on column collapse_by_method.share is 'n_collapsed / n_edits. Fraction 0-1.';
comment on column collapse_by_method.wilson_low is
    'Lower end of the share''s 95 % Wilson interval, for as many independent draws as the edits of n_subjects subjects are worth: macro independent_draws. Fraction 0-1.';
comment on column collapse_by_method.wilson_high is
    'Upper end of the same interval. Fraction 0-1.';
comment on column collapse_by_method.max_perplexity_ratio is
    'Largest perplexity / perplexity_before, both by the rule''s measure. Ratio, no unit; nan counts as the largest.';
comment on column collapse_by_method.n_by_mean is
    'Edits that collapse where perplexity is the mean over the texts, the published measure. Count.';
comment on column collapse_by_method.n_by_nll is
    'Edits that collapse where perplexity is exp(nll_mean), which no single text rules. Count.';
comment on column collapse_by_method.n_by_median is
    'Edits that collapse where perplexity is the median over the texts. Count.';
comment on column collapse_by_method.study_id is 'Study: studies.study_id.';
