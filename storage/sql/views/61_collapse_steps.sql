-- After how many edits does each sequence collapse its model?
-- The view asks with the default rule, the macro of the same name with any other:
--     from collapse_steps;
--     from collapse_steps(threshold := 500, ratio := null);
create macro collapse_steps(
    threshold := main.collapse_rule().threshold,
    ratio := main.collapse_rule().ratio,
    measure := main.collapse_rule().measure
) as table
with judged as (
    select
        *,
        min(case when collapsed then n_edits end) over (
            partition by study_id, model, editor, sequence_id
        ) as collapse_step
    from main.sequence_outcomes(threshold := threshold, ratio := ratio, measure := measure)
)
select
    study,
    model,
    editor,
    order_seed,
    collapse_step,
    coalesce(
        max(n_edits) filter (where collapse_step is null or n_edits < collapse_step), 0
    ) as last_alive,
    collapse_step is not null as observed,
    max(n_edits) as followed_to,
    method,
    guard_policy,
    sequence_id,
    model_id,
    study_id
from judged
group by
    study, model, editor, order_seed, collapse_step, method, guard_policy, sequence_id, model_id,
    study_id
order by
    study, study_id, main.model_order(study_id, model), model, main.method_order(method), editor,
    order_seed, sequence_id;

create view collapse_steps as
select * from main.collapse_steps();

comment on macro table collapse_steps is
    'The checkpoint at which each sequence first collapses its model, with the rule of collapse as argument.';
comment on view collapse_steps is
    'The checkpoint at which each sequence first collapses its model, one row a sequence of a study; default rule of collapse. The collapse lies above last_alive and at most at collapse_step. A sequence that its guard stopped is censored where it stopped, which is no chance: compare such sequences with care.';
comment on column collapse_steps.study is 'Name of the study. Text.';
comment on column collapse_steps.model is 'Name of the model in the study. Text.';
comment on column collapse_steps.editor is 'Name of the editor in the study. Text.';
comment on column collapse_steps.order_seed is 'Order of the requests: sequences.order_seed. Integer.';
comment on column collapse_steps.collapse_step is
    'Edits at the first checkpoint at which the model has collapsed. Count. NULL = it has not by the last one.';
comment on column collapse_steps.last_alive is
    'Edits at the checkpoint before collapse_step, or at the last one where there is no collapse; 0 where there is none before. Count.';
comment on column collapse_steps.observed is
    'Whether a collapse was seen; otherwise the sequence is censored at followed_to. Boolean.';
comment on column collapse_steps.followed_to is 'Edits at the last checkpoint that was measured. Count.';
comment on column collapse_steps.method is
    'What edits, by its name in the catalog: sequences.editor. Text.';
comment on column collapse_steps.guard_policy is 'sequences.guard_policy. Text. NULL = no guard.';
comment on column collapse_steps.sequence_id is 'Sequence: sequences.sequence_id.';
comment on column collapse_steps.model_id is 'Model: models.model_id.';
comment on column collapse_steps.study_id is 'Study: studies.study_id.';
