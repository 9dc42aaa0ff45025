-- How often do single edits collapse a model, by model, method, dataset and position of the subject?
-- The view asks with the default rule, the macro of the same name with any other:
--     from collapse_incidence;
--     from collapse_incidence(threshold := 500, ratio := null);
-- Single edits and re-evaluations are left out unless they are asked for:
--     from collapse_incidence(kinds := ['single edit']);
--     from collapse_incidence(kinds := null);  -- of every kind
create macro collapse_incidence(
    threshold := main.collapse_rule().threshold,
    ratio := main.collapse_rule().ratio,
    kinds := ['study']
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
    main.wilson_low(counted.n_collapsed, counted.n_edits) as wilson_low,
    main.wilson_high(counted.n_collapsed, counted.n_edits) as wilson_high,
    counted.median_perplexity_ratio,
    counted.max_perplexity_ratio,
    counted.dataset,
    coalesce(studies.kind, 'study') as study_kind,
    placed.place as model_place,
    counted.study_id
from counted
left join main.studies on studies.study_id = counted.study_id
left join placed on placed.study_id = counted.study_id and placed.name = counted.model
where kinds is null or list_contains(kinds, coalesce(studies.kind, 'study'))
order by
    counted.study, counted.study_id, placed.place, counted.model,
    main.method_order(counted.method), counted.method,
    main.position_order(counted.subject_position), counted.subject_position;

create view collapse_incidence as
select * from main.collapse_incidence();

comment on macro table collapse_incidence is
    'Share of edits that collapse the model, with the rule as argument: perplexity nan, inf, above threshold, or above ratio times the unedited model''s; kinds := null asks for single edits and re-evaluations too.';
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
    'Lower end of the share''s 95 % Wilson interval. Fraction 0-1.';
comment on column collapse_incidence.wilson_high is
    'Upper end of the share''s 95 % Wilson interval. Fraction 0-1.';
comment on column collapse_incidence.median_perplexity_ratio is
    'Median of perplexity / perplexity_before. Ratio, no unit; nan counts as the largest.';
comment on column collapse_incidence.max_perplexity_ratio is
    'Largest perplexity / perplexity_before. Ratio, no unit; nan counts as the largest.';
comment on column collapse_incidence.study_kind is 'What the study was run as: studies.kind. Text.';
comment on column collapse_incidence.model_place is
    'Place of the model in the study file. Index from 0. NULL as study_models.place.';
