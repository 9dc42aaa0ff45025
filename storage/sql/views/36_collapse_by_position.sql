-- How often do single edits collapse a model, on one line for each model and method?
-- Narrow, to be read; collapse_incidence has the same with shares and intervals, to be computed with.
-- The view asks with the default rule, the macro of the same name with any other:
--     from collapse_by_position;
--     from collapse_by_position(threshold := 500, ratio := null);
--     from collapse_by_position(measure := 'nll');
--     from collapse_by_position(kinds := null);  -- single edits and re-evaluations too
create macro collapse_by_position(
    threshold := main.collapse_rule().threshold,
    ratio := main.collapse_rule().ratio,
    measure := main.collapse_rule().measure,
    kinds := ['study']
) as table
with counted as (
    select
        study,
        study_id,
        model_place,
        model,
        method,
        subject_position,
        sum(n_collapsed) || ' of ' || sum(n_edits)
        || main.by_other_measure(sum(n_collapsed), measure, sum(n_by_mean), sum(n_by_nll)) as n_of,
        max(max_perplexity_ratio) as largest
    from main.collapse_incidence(
        threshold := threshold, ratio := ratio, measure := measure, kinds := kinds
    )
    group by study, study_id, model_place, model, method, subject_position
)
select
    study,
    model,
    method,
    any_value(n_of) filter (where subject_position = 'first_token') as first_token,
    any_value(n_of) filter (where subject_position = 'first_several') as several,
    any_value(n_of) filter (where subject_position = 'inside') as inside,
    round(max(largest), 2) as worst,
    study_id
from counted
group by study, study_id, model_place, model, method
order by study, study_id, model_place, model, main.method_order(method), method;

create view collapse_by_position as
select * from main.collapse_by_position();

comment on macro table collapse_by_position is
    'Edits that collapse the model by position of the subject, a line for each model and method, with the rule as argument; kinds := null asks for single edits and re-evaluations too.';
comment on view collapse_by_position is
    'Edits that collapse the model by position of the subject: a line for each model and method of each study, the baseline first; default rule of collapse.';
comment on column collapse_by_position.study is 'Name of the study. Text.';
comment on column collapse_by_position.model is 'Name of the model in the study. Text.';
comment on column collapse_by_position.first_token is
    'Edits that collapse, of those measured, where the subject starts the prompt and is one token: 51 of 55; 18 of 47 (11 by nll) where another measure of perplexity counts otherwise. Text. NULL = none measured.';
comment on column collapse_by_position.several is
    'Likewise where the subject starts the prompt with several tokens: first_several. Text. NULL = none measured.';
comment on column collapse_by_position.inside is
    'Likewise where the subject stands further inside. Text. NULL = none measured.';
comment on column collapse_by_position.worst is
    'Largest perplexity / perplexity_before over all positions, by the rule''s measure, to two decimals. Ratio, no unit; nan counts as the largest.';
comment on column collapse_by_position.study_id is 'Study: studies.study_id.';
