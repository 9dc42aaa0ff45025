-- How often do single edits collapse a model, by model, method, dataset and position of the subject?
-- The view asks with the default rule, the macro of the same name with any other:
--     from collapse_incidence;
--     from collapse_incidence(threshold := 500, ratio := null);
--     from collapse_incidence(measure := 'nll');  -- the ratio of exp(mean NLL), which no text rules
-- Single edits and re-evaluations are left out unless they are asked for:
--     from collapse_incidence(kinds := ['single edit']);
--     from collapse_incidence(kinds := null);  -- of every kind
create macro collapse_incidence(
    threshold := main.collapse_rule().threshold,
    ratio := main.collapse_rule().ratio,
    measure := main.collapse_rule().measure,
    kinds := ['study']
) as table
with judged as (
    from main.judged_edits(
        threshold := threshold, ratio := ratio, measure := measure, kinds := kinds
    )
    where is_collapsed is not null
),
by_subject as (
    -- Edits of one subject are no independent draws.
    select
        study_id,
        model,
        method,
        dataset,
        subject_position,
        count(*) as n,
        count(*) filter (where is_collapsed) as k
    from judged
    group by study_id, model, method, dataset, subject_position, subject
),
subjects as (
    select
        study_id,
        model,
        method,
        dataset,
        subject_position,
        count(*) as n_subjects,
        main.independent_draws(sum(k), sum(n), count(*), sum(k * k), sum(k * n), sum(n * n)) as draws
    from by_subject
    group by all
),
counted as (
    select
        study,
        study_id,
        study_kind,
        model,
        method,
        dataset,
        subject_position,
        count(*) as n_edits,
        count(*) filter (where is_collapsed) as n_collapsed,
        count(*) filter (where is_by_mean) as n_by_mean,
        count(*) filter (where is_by_nll) as n_by_nll,
        count(*) filter (where is_by_median) as n_by_median,
        median(perplexity_ratio) as median_perplexity_ratio,
        max(perplexity_ratio) as max_perplexity_ratio
    from judged
    group by all
),
placed as (
    select study_id, name, min(place) as place
    from main.study_models
    group by study_id, name
)
select
    counted.study,
    counted.model,
    counted.method,
    counted.subject_position,
    counted.n_collapsed,
    counted.n_edits,
    counted.n_collapsed / counted.n_edits::double as share,
    main.wilson_low(share * subjects.draws, subjects.draws) as wilson_low,
    main.wilson_high(share * subjects.draws, subjects.draws) as wilson_high,
    counted.median_perplexity_ratio,
    counted.max_perplexity_ratio,
    counted.dataset,
    counted.study_kind,
    placed.place as model_place,
    counted.n_by_mean,
    counted.n_by_nll,
    counted.n_by_median,
    subjects.n_subjects,
    counted.study_id
from counted
inner join subjects
    on subjects.study_id = counted.study_id
    and subjects.model is not distinct from counted.model
    and subjects.method = counted.method
    and subjects.dataset is not distinct from counted.dataset
    and subjects.subject_position is not distinct from counted.subject_position
left join placed on placed.study_id = counted.study_id and placed.name = counted.model
order by
    counted.study, counted.study_id, placed.place, counted.model,
    main.method_order(counted.method), counted.method,
    main.position_order(counted.subject_position), counted.subject_position;

create view collapse_incidence as
select * from main.collapse_incidence();

comment on macro table collapse_incidence is
    'Share of edits that collapse the model, with the rule as argument: perplexity nan, inf, above threshold, or above ratio times the unedited model''s, by measure (mean, nll or median: macro perplexity_by); kinds := null asks for single edits and re-evaluations too.';
comment on view collapse_incidence is
    'Share of edits that collapse the model: perplexity nan, inf, or above the bounds of macro collapse_rule; of studies, without single edits and re-evaluations.';
comment on column collapse_incidence.study is 'Name of the study. Text.';
comment on column collapse_incidence.study_id is 'Study: studies.study_id.';
comment on column collapse_incidence.model is 'Name of the model in the study. Text.';
comment on column collapse_incidence.dataset is 'Name of the file of edit requests. Text.';
comment on column collapse_incidence.n_edits is
    'Edits measured so far; those not measured are left out. Count.';
comment on column collapse_incidence.n_collapsed is 'Of these, edits that collapse. Count.';
comment on column collapse_incidence.share is 'n_collapsed / n_edits. Fraction 0-1.';
comment on column collapse_incidence.wilson_low is
    'Lower end of the share''s 95 % Wilson interval, for as many independent draws as the edits of n_subjects subjects are worth: macro independent_draws. Fraction 0-1.';
comment on column collapse_incidence.wilson_high is
    'Upper end of the same interval. Fraction 0-1.';
comment on column collapse_incidence.median_perplexity_ratio is
    'Median of perplexity / perplexity_before, both by the rule''s measure. Ratio, no unit; nan counts as the largest.';
comment on column collapse_incidence.max_perplexity_ratio is
    'Largest perplexity / perplexity_before, both by the rule''s measure. Ratio, no unit; nan counts as the largest.';
comment on column collapse_incidence.study_kind is 'What the study was run as: studies.kind. Text.';
comment on column collapse_incidence.model_place is
    'Place of the model in the study file. Index from 0. NULL as study_models.place.';
comment on column collapse_incidence.n_by_mean is
    'Edits that collapse where perplexity is the mean over the texts, the published measure. Count.';
comment on column collapse_incidence.n_by_nll is
    'Edits that collapse where perplexity is exp(nll_mean), which no single text rules. Count.';
comment on column collapse_incidence.n_by_median is
    'Edits that collapse where perplexity is the median over the texts. Count.';
comment on column collapse_incidence.n_subjects is
    'Subjects that the edits are of; edits of one subject are no independent draws. Count.';
