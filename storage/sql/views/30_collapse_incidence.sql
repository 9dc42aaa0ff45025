-- How often do single edits collapse a model, by model, method, dataset and position of the subject?
-- The view asks with the default rule, the macro of the same name with any other:
--     from collapse_incidence;
--     from collapse_incidence(threshold := 500, ratio := null);
create macro collapse_incidence(
    threshold := main.collapse_rule().threshold, ratio := main.collapse_rule().ratio
) as table
with judged as (
    select
        *,
        perplexity / perplexity_before as perplexity_ratio,
        main.collapsed(perplexity, perplexity_before, threshold, ratio) as is_collapsed
    from main.measured_edits
),
counted as (
    select
        study,
        study_id,
        model,
        method,
        dataset,
        subject_position,
        count(*) as n_edits,
        count(*) filter (where is_collapsed) as n_collapsed,
        median(perplexity_ratio) as median_perplexity_ratio,
        max(perplexity_ratio) as max_perplexity_ratio
    from judged
    where is_collapsed is not null
    group by all
)
select
    study,
    study_id,
    model,
    method,
    dataset,
    subject_position,
    n_edits,
    n_collapsed,
    n_collapsed / n_edits::double as share,
    main.wilson_low(n_collapsed, n_edits) as wilson_low,
    main.wilson_high(n_collapsed, n_edits) as wilson_high,
    median_perplexity_ratio,
    max_perplexity_ratio
from counted
order by study, study_id, model, method, dataset, subject_position;

create view collapse_incidence as
select * from main.collapse_incidence();

comment on macro table collapse_incidence is
    'Share of edits that collapse the model, with the rule as argument: perplexity nan, inf, above threshold, or above ratio times the unedited model''s.';
comment on view collapse_incidence is
    'Share of edits that collapse the model: perplexity nan, inf, or above the bounds of macro collapse_rule.';
comment on column collapse_incidence.study is 'Name of the study. Text.';
comment on column collapse_incidence.study_id is 'Study: studies.study_id.';
comment on column collapse_incidence.model is 'Name of the model in the study. Text.';
comment on column collapse_incidence.dataset is 'Name of the file of edit requests. Text.';
comment on column collapse_incidence.n_edits is
    'Edits measured so far; those not measured are left out. Count.';
comment on column collapse_incidence.n_collapsed is 'Of these, edits that collapse. Count.';
comment on column collapse_incidence.share is 'n_collapsed / n_edits. Fraction 0-1.';
comment on column collapse_incidence.wilson_low is
    'Lower end of the share''s 95 % Wilson interval. Fraction 0-1.';
comment on column collapse_incidence.wilson_high is
    'Upper end of the share''s 95 % Wilson interval. Fraction 0-1.';
comment on column collapse_incidence.median_perplexity_ratio is
    'Median of perplexity / perplexity_before. Ratio, no unit; nan counts as the largest.';
comment on column collapse_incidence.max_perplexity_ratio is
    'Largest perplexity / perplexity_before. Ratio, no unit; nan counts as the largest.';
