-- Which share of the sequences leaves the model alive after so many edits?
-- Kaplan and Meier's estimate over the orders of the requests. Its interval is the exponential
-- Greenwood one (log-log: Kalbfleisch & Prentice, The Statistical Analysis of Failure Time Data,
-- section 1.4), which has no value where the share is 0 or 1: there it is Wilson's, for the sequences that
-- no censoring has taken out before.
create macro survival_end(alive, variance, n_followed, sign) as
    case
        when n_followed = 0 or alive is null then null
        when alive >= 1 and sign > 0 then 1.0::double
        when alive <= 0 and sign < 0 then 0.0::double
        when alive >= 1 then main.wilson_low(n_followed, n_followed)
        when alive <= 0 then main.wilson_high(0, n_followed)
        else least(1.0::double, greatest(
            0.0::double,
            alive ** exp(-sign * 1.959963984540054 * sqrt(variance) / abs(ln(alive)))
        ))
    end;

comment on macro survival_end is
    'An end of the 95 % interval of a Kaplan-Meier share, the upper with sign 1, the lower with -1: exponential Greenwood, variance being the sum of d / (n (n - d)); where the share is 0 or 1 Wilson''s, of n_followed. Fraction 0-1.';

-- The view asks with the default rule, the macro of the same name with any other:
--     from sequence_survival;
--     from sequence_survival(threshold := 500, ratio := null);
create macro sequence_survival(
    threshold := main.collapse_rule().threshold,
    ratio := main.collapse_rule().ratio,
    measure := main.collapse_rule().measure
) as table
with ends as (
    select *, coalesce(collapse_step, followed_to) as time
    from main.collapse_steps(threshold := threshold, ratio := ratio, measure := measure)
),
groups as (
    select study, study_id, model, editor, min(method) as method, count(*) as n_sequences
    from ends
    group by study, study_id, model, editor
),
times as (
    select study_id, model, editor, n_edits
    from main.sequence_outcomes(threshold := threshold, ratio := ratio, measure := measure)
    union
    select study_id, model, editor, 0
    from groups
),
counted as (
    select
        groups.*,
        times.n_edits,
        count(*) filter (where ends.time >= times.n_edits) as at_risk,
        count(*) filter (where ends.observed and ends.time = times.n_edits) as n_collapsed,
        count(*) filter (where not ends.observed and ends.time = times.n_edits) as n_censored,
        count(*) filter (where ends.observed or ends.time >= times.n_edits) as n_followed
    from groups
    inner join times using (study_id, model, editor)
    inner join ends using (study_id, model, editor)
    group by all
),
estimated as (
    select
        *,
        product(1 - n_collapsed / nullif(at_risk, 0)::double) over so_far as alive,
        coalesce(
            sum(n_collapsed / nullif(at_risk * (at_risk - n_collapsed), 0)::double) over so_far, 0
        ) as variance
    from counted
    window so_far as (
        partition by study_id, model, editor order by n_edits rows unbounded preceding
    )
)
select
    study,
    model,
    editor,
    n_edits,
    at_risk,
    n_collapsed,
    n_censored,
    alive,
    if(n_edits = 0, 1, main.survival_end(alive, variance, n_followed, -1)) as lower,
    if(n_edits = 0, 1, main.survival_end(alive, variance, n_followed, 1)) as upper,
    n_sequences,
    method,
    study_id
from estimated
-- Where nobody is left whom a collapse could have taken, nothing is known.
where at_risk > 0 or alive = 0
order by
    study, study_id, main.model_order(study_id, model), model, main.method_order(method), editor,
    n_edits;

create view sequence_survival as
select * from main.sequence_survival();

comment on macro table sequence_survival is
    'Kaplan-Meier curves of sequences of edits, with the rule of collapse as argument.';
comment on view sequence_survival is
    'Kaplan-Meier curves: the share of the sequences, over the orders of the requests, that leave the model alive after so many edits, by study, model and editor; one row a checkpoint, and one for 0 edits. Default rule of collapse.';
comment on column sequence_survival.study is 'Name of the study. Text.';
comment on column sequence_survival.model is 'Name of the model in the study. Text.';
comment on column sequence_survival.editor is 'Name of the editor in the study. Text.';
comment on column sequence_survival.n_edits is 'Edits asked for so far; 0 is the unedited model. Count.';
comment on column sequence_survival.at_risk is
    'Sequences that have neither collapsed nor ended before. Count.';
comment on column sequence_survival.n_collapsed is
    'Sequences that are seen to have collapsed at this checkpoint first. Count.';
comment on column sequence_survival.n_censored is
    'Sequences that end at this checkpoint without a collapse. Count.';
comment on column sequence_survival.alive is
    'Kaplan and Meier''s estimate: product of 1 - n_collapsed / at_risk so far. Fraction 0-1.';
comment on column sequence_survival.lower is
    'Lower end of the 95 % interval of alive: macro survival_end; 1 at 0 edits. Fraction 0-1.';
comment on column sequence_survival.upper is 'Upper end of the same interval. Fraction 0-1.';
comment on column sequence_survival.n_sequences is 'Sequences of the editor, one an order. Count.';
comment on column sequence_survival.method is
    'What edits, by its name in the catalog: sequences.editor. Text.';
comment on column sequence_survival.study_id is 'Study: studies.study_id.';

-- And in one line an editor: after how many edits is half of the sequences gone?
--     from collapse_step_by_editor;
--     from collapse_step_by_editor(threshold := 500, ratio := null);
create macro collapse_step_by_editor(
    threshold := main.collapse_rule().threshold,
    ratio := main.collapse_rule().ratio,
    measure := main.collapse_rule().measure
) as table
with curves as (
    select
        study_id,
        model,
        editor,
        min(n_edits) filter (where alive <= 0.5) as median,
        min(n_edits) filter (where lower <= 0.5) as median_low,
        min(n_edits) filter (where upper <= 0.5) as median_high,
        arg_max(alive, n_edits) as alive,
        arg_max(lower, n_edits) as lower,
        arg_max(upper, n_edits) as upper
    from main.sequence_survival(threshold := threshold, ratio := ratio, measure := measure)
    group by all
),
counted as (
    select
        study,
        study_id,
        model,
        editor,
        min(method) as method,
        count(*) as n_orders,
        count(*) filter (where observed) as n_collapsed,
        min(collapse_step) as earliest,
        case when bool_and(observed) then max(collapse_step) end as latest,
        max(followed_to) as followed_to
    from main.collapse_steps(threshold := threshold, ratio := ratio, measure := measure)
    group by study, study_id, model, editor
)
select
    counted.study,
    counted.model,
    counted.editor,
    counted.n_collapsed,
    counted.n_orders,
    curves.median,
    counted.earliest,
    counted.latest,
    curves.median_low,
    curves.median_high,
    curves.alive,
    curves.lower,
    curves.upper,
    counted.followed_to,
    counted.method,
    counted.study_id
from counted
inner join curves
    on curves.study_id = counted.study_id
    and curves.model = counted.model
    and curves.editor = counted.editor
order by
    counted.study, counted.study_id, main.model_order(counted.study_id, counted.model),
    counted.model, main.method_order(counted.method), counted.editor;

create view collapse_step_by_editor as
select * from main.collapse_step_by_editor();

comment on macro table collapse_step_by_editor is
    'Edits until the collapse by study, model and editor, with the rule of collapse as argument.';
comment on view collapse_step_by_editor is
    'Edits until the collapse by study, model and editor, over the orders of the requests: median, earliest and latest, and the share of sequences alive at the end. Default rule of collapse.';
comment on column collapse_step_by_editor.study is 'Name of the study. Text.';
comment on column collapse_step_by_editor.model is 'Name of the model in the study. Text.';
comment on column collapse_step_by_editor.editor is 'Name of the editor in the study. Text.';
comment on column collapse_step_by_editor.n_collapsed is 'Sequences that collapse. Count.';
comment on column collapse_step_by_editor.n_orders is 'Sequences, one an order. Count.';
comment on column collapse_step_by_editor.median is
    'Edits at the first checkpoint at which at most half of the sequences are alive, by sequence_survival. Count. NULL = not reached.';
comment on column collapse_step_by_editor.earliest is
    'Smallest collapse_steps.collapse_step. Count. NULL = none collapses.';
comment on column collapse_step_by_editor.latest is
    'Largest collapse_steps.collapse_step. Count. NULL = not all collapse.';
comment on column collapse_step_by_editor.median_low is
    'Lower end of the 95 % interval of median: the first checkpoint at which the lower end of alive is at most a half (Brookmeyer and Crowley). Count. NULL = not reached.';
comment on column collapse_step_by_editor.median_high is
    'Upper end of the same interval, by the upper end of alive. Count. NULL = not reached.';
comment on column collapse_step_by_editor.alive is
    'Share of the sequences that leave the model alive at the end: sequence_survival.alive. Fraction 0-1.';
comment on column collapse_step_by_editor.lower is 'Lower end of its 95 % interval. Fraction 0-1.';
comment on column collapse_step_by_editor.upper is 'Upper end of its 95 % interval. Fraction 0-1.';
comment on column collapse_step_by_editor.followed_to is
    'Edits at the last checkpoint of any of them. Count.';
comment on column collapse_step_by_editor.method is
    'What edits, by its name in the catalog: sequences.editor. Text.';
comment on column collapse_step_by_editor.study_id is 'Study: studies.study_id.';
