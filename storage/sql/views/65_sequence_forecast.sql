-- Does the change of the layers' output on text, known without any evaluation, tell the collapse first?
-- One editor is left out at a time: the bound for it is the smallest text_change that was measured at a
-- collapsed checkpoint of all others, of the same study and model, for bounds do not carry over from
-- one model to another. Variants of one editor are left out together.
-- The view asks with the default rule, the macro of the same name with any other:
--     from sequence_forecast;
--     from sequence_forecast(threshold := 500, ratio := null);
create macro sequence_forecast(
    threshold := main.collapse_rule().threshold,
    ratio := main.collapse_rule().ratio,
    measure := main.collapse_rule().measure
) as table
with outcomes as (
    from main.sequence_outcomes(threshold := threshold, ratio := ratio, measure := measure)
),
ends as (
    from main.collapse_steps(threshold := threshold, ratio := ratio, measure := measure)
),
smallest as (
    select
        study_id,
        model,
        method,
        min(text_change) filter (where collapsed and not isnan(text_change)) as text_change
    from outcomes
    group by study_id, model, method
),
bounds as (
    select held_out.study_id, held_out.model, held_out.method, min(others.text_change) as bound
    from smallest as held_out
    left join smallest as others
        on others.study_id = held_out.study_id
        and others.model = held_out.model
        and others.method <> held_out.method
    group by all
),
flags as (
    select
        ends.study_id,
        ends.model,
        ends.editor,
        ends.sequence_id,
        min(steps.n_edits) as flagged_at
    from ends
    inner join bounds
        on bounds.study_id = ends.study_id
        and bounds.model = ends.model
        and bounds.method = ends.method
    inner join main.sequence_steps as steps on steps.sequence_id = ends.sequence_id
    where (steps.text_change >= bounds.bound or (isnan(steps.text_change) and bounds.bound is not null))
        and steps.n_edits <= ends.followed_to
    group by all
)
select
    ends.study,
    ends.model,
    ends.editor,
    ends.order_seed,
    bounds.bound,
    ends.collapse_step,
    ends.last_alive,
    ends.observed,
    ends.followed_to,
    if(ends.last_alive = 0, 0, alive.text_change) as text_change_alive,
    gone.text_change as text_change_collapsed,
    flags.flagged_at,
    ends.collapse_step - flags.flagged_at as lead,
    case
        when bounds.bound is null then null
        when ends.observed then if(coalesce(lead >= 0, false), 'caught', 'missed')
        else if(flags.flagged_at is null, 'quiet', 'false alarm')
    end as outcome,
    ends.method,
    ends.sequence_id,
    ends.study_id
from ends
inner join bounds
    on bounds.study_id = ends.study_id
    and bounds.model = ends.model
    and bounds.method = ends.method
left join flags
    on flags.study_id = ends.study_id
    and flags.model = ends.model
    and flags.editor = ends.editor
    and flags.sequence_id = ends.sequence_id
left join outcomes as alive
    on alive.study_id = ends.study_id
    and alive.model = ends.model
    and alive.editor = ends.editor
    and alive.sequence_id = ends.sequence_id
    and alive.n_edits = ends.last_alive
left join outcomes as gone
    on gone.study_id = ends.study_id
    and gone.model = ends.model
    and gone.editor = ends.editor
    and gone.sequence_id = ends.sequence_id
    and gone.n_edits = ends.collapse_step
order by
    ends.study, ends.study_id, main.model_order(ends.study_id, ends.model), ends.model,
    main.method_order(ends.method), ends.editor, ends.order_seed, ends.sequence_id;

create view sequence_forecast as
select * from main.sequence_forecast();

comment on macro table sequence_forecast is
    'Whether a bound on text_change, taken from all other editors, tells each sequence''s collapse, with the rule of collapse as argument.';
comment on view sequence_forecast is
    'Whether a bound on the closed-form text_change tells each sequence''s collapse before it is seen; the bound is taken from all other editors of the same study and model. One row a sequence; default rule of collapse.';
comment on column sequence_forecast.study is 'Name of the study. Text.';
comment on column sequence_forecast.model is 'Name of the model in the study. Text.';
comment on column sequence_forecast.editor is 'Name of the editor in the study. Text.';
comment on column sequence_forecast.order_seed is 'Order of the requests: sequences.order_seed. Integer.';
comment on column sequence_forecast.bound is
    'Smallest text_change at a collapsed checkpoint of all other editors of the study on the model. Ratio, no unit. NULL = no other editor collapsed.';
comment on column sequence_forecast.collapse_step is
    'collapse_steps.collapse_step. Count. NULL = no collapse by the last checkpoint.';
comment on column sequence_forecast.last_alive is 'collapse_steps.last_alive. Count.';
comment on column sequence_forecast.observed is 'Whether a collapse was seen. Boolean.';
comment on column sequence_forecast.followed_to is 'collapse_steps.followed_to. Count.';
comment on column sequence_forecast.text_change_alive is
    'text_change at last_alive; 0 where that is the unedited model. Ratio, no unit; inf and nan are kept.';
comment on column sequence_forecast.text_change_collapsed is
    'text_change at collapse_step. Ratio, no unit; inf and nan are kept. NULL = no collapse.';
comment on column sequence_forecast.flagged_at is
    'Edits at the first step, checkpoint or not, whose text_change reaches the bound or is nan. Count. NULL = none up to followed_to, or no bound.';
comment on column sequence_forecast.lead is
    'collapse_step - flagged_at: edits by which the bound is reached before the collapse is seen; below 0 after it. Count. NULL = no collapse or no flag.';
comment on column sequence_forecast.outcome is
    'caught (flagged at collapse_step or before), missed, false alarm (flagged, no collapse) or quiet (neither). Text. NULL = no bound.';
comment on column sequence_forecast.method is
    'What edits, by its name in the catalog: sequences.editor. Text.';
comment on column sequence_forecast.sequence_id is 'Sequence: sequences.sequence_id.';
comment on column sequence_forecast.study_id is 'Study: studies.study_id.';

-- And in one line an editor: how often is it right on an editor that it has not seen?
--     from sequence_forecast_by_editor;
--     from sequence_forecast_by_editor(threshold := 500, ratio := null);
create macro sequence_forecast_by_editor(
    threshold := main.collapse_rule().threshold,
    ratio := main.collapse_rule().ratio,
    measure := main.collapse_rule().measure
) as table
with counted as (
    select
        study,
        study_id,
        model,
        editor,
        min(method) as method,
        min(bound) as bound,
        count(*) as n_sequences,
        count(*) filter (where observed) as n_collapsed,
        count(*) filter (where outcome = 'caught') as n_caught,
        count(*) filter (where outcome = 'missed') as n_missed,
        count(*) filter (where outcome = 'false alarm') as n_false_alarms,
        count(*) filter (where outcome = 'quiet') as n_quiet,
        median(lead) filter (where outcome = 'caught') as median_lead,
        min(lead) filter (where outcome = 'caught') as smallest_lead
    from main.sequence_forecast(threshold := threshold, ratio := ratio, measure := measure)
    group by study, study_id, model, editor
)
select
    study,
    model,
    editor,
    bound,
    n_sequences,
    n_collapsed,
    if(bound is null, null, n_caught) as n_caught,
    if(bound is null, null, n_missed) as n_missed,
    if(bound is null, null, n_false_alarms) as n_false_alarms,
    if(bound is null, null, n_quiet) as n_quiet,
    median_lead,
    smallest_lead,
    method,
    study_id
from counted
order by
    study, study_id, main.model_order(study_id, model), model, main.method_order(method), editor;

create view sequence_forecast_by_editor as
select * from main.sequence_forecast_by_editor();

comment on macro table sequence_forecast_by_editor is
    'sequence_forecast counted by held-out editor, with the rule of collapse as argument.';
comment on view sequence_forecast_by_editor is
    'sequence_forecast counted by study, model and held-out editor: the bound knows all other editors and not this one. Default rule of collapse.';
comment on column sequence_forecast_by_editor.study is 'Name of the study. Text.';
comment on column sequence_forecast_by_editor.model is 'Name of the model in the study. Text.';
comment on column sequence_forecast_by_editor.editor is
    'Name of the held-out editor in the study. Text.';
comment on column sequence_forecast_by_editor.bound is
    'sequence_forecast.bound. Ratio, no unit. NULL = no other editor collapsed.';
comment on column sequence_forecast_by_editor.n_sequences is 'Sequences of the editor. Count.';
comment on column sequence_forecast_by_editor.n_collapsed is 'Of these, sequences that collapse. Count.';
comment on column sequence_forecast_by_editor.n_caught is
    'Collapses that were flagged when they were seen, or before. Count. NULL = no bound.';
comment on column sequence_forecast_by_editor.n_missed is
    'Collapses that were not. Count. NULL = no bound.';
comment on column sequence_forecast_by_editor.n_false_alarms is
    'Sequences that were flagged and did not collapse. Count. NULL = no bound.';
comment on column sequence_forecast_by_editor.n_quiet is
    'Sequences that were not flagged and did not collapse. Count. NULL = no bound.';
comment on column sequence_forecast_by_editor.median_lead is
    'Median of lead over the collapses that were caught. Edits. NULL = none.';
comment on column sequence_forecast_by_editor.smallest_lead is
    'Smallest lead of the collapses that were caught. Edits. NULL = none.';
comment on column sequence_forecast_by_editor.method is
    'What edits, by its name in the catalog: sequences.editor. Text.';
comment on column sequence_forecast_by_editor.study_id is 'Study: studies.study_id.';
