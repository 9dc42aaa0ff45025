-- What is left of the model at each checkpoint of each sequence of edits?
-- The view asks with the default rule, the macro of the same name with any other:
--     from sequence_outcomes;
--     from sequence_outcomes(threshold := 500, ratio := null);
--     from sequence_outcomes(measure := 'nll');
create macro sequence_outcomes(
    threshold := main.collapse_rule().threshold,
    ratio := main.collapse_rule().ratio,
    measure := main.collapse_rule().measure
) as table
select
    studies.name as study,
    study_sequences.model,
    study_sequences.editor,
    sequences.order_seed,
    checkpoints.n_edits,
    main.perplexity_by(
        measure, checkpoints.perplexity, checkpoints.nll_mean, checkpoints.perplexity_median
    ) as perplexity,
    main.perplexity_by(
        measure, base.perplexity, base.nll_mean, base.perplexity_median
    ) as perplexity_before,
    main.perplexity_by(
        measure, checkpoints.perplexity, checkpoints.nll_mean, checkpoints.perplexity_median
    ) / main.perplexity_by(
        measure, base.perplexity, base.nll_mean, base.perplexity_median
    ) as perplexity_ratio,
    main.collapsed(
        main.perplexity_by(
            measure, checkpoints.perplexity, checkpoints.nll_mean, checkpoints.perplexity_median
        ),
        main.perplexity_by(measure, base.perplexity, base.nll_mean, base.perplexity_median),
        threshold,
        ratio
    ) as collapsed,
    steps.drift_norm,
    steps.relative_drift,
    steps.text_change,
    checkpoints.step,
    sequences.editor as method,
    sequences.edits_per_step,
    sequences.guard_policy,
    checkpoints.sequence_id,
    sequences.model_id,
    study_sequences.study_id
from main.study_sequences
inner join main.sequences on sequences.sequence_id = study_sequences.sequence_id
inner join main.sequence_checkpoints as checkpoints
    on checkpoints.sequence_id = study_sequences.sequence_id
    and checkpoints.n_edits <= study_sequences.n_edits
left join main.sequence_steps as steps
    on steps.sequence_id = checkpoints.sequence_id and steps.step = checkpoints.step
left join main.studies on studies.study_id = study_sequences.study_id
left join main.base_perplexities as base
    on base.model_id = sequences.model_id and base.evaluation_id = sequences.evaluation_id
order by
    study, study_sequences.study_id, main.model_order(study_sequences.study_id, study_sequences.model),
    study_sequences.model, main.method_order(sequences.editor), study_sequences.editor,
    sequences.order_seed, checkpoints.sequence_id, checkpoints.n_edits;

create view sequence_outcomes as
select * from main.sequence_outcomes();

comment on macro table sequence_outcomes is
    'Checkpoints of sequences of edits, each judged by a rule of collapse that is the argument; perplexities are by its measure.';
comment on view sequence_outcomes is
    'Checkpoints of sequences of edits: perplexity beside the unedited model''s, and how far the weights are from where they were. One row a checkpoint; default rule of collapse.';
comment on column sequence_outcomes.study is 'Name of the study. Text.';
comment on column sequence_outcomes.model is 'Name of the model in the study. Text.';
comment on column sequence_outcomes.editor is 'Name of the editor in the study. Text.';
comment on column sequence_outcomes.order_seed is 'Order of the requests: sequences.order_seed. Integer.';
comment on column sequence_outcomes.n_edits is 'Edits asked for so far. Count.';
comment on column sequence_outcomes.perplexity is
    'Perplexity of the edited model, by the rule''s measure. No unit; inf and nan are kept.';
comment on column sequence_outcomes.perplexity_before is
    'Perplexity of the unedited model on the same texts, by the rule''s measure. No unit.';
comment on column sequence_outcomes.perplexity_ratio is
    'perplexity / perplexity_before. Ratio, no unit; inf and nan are kept.';
comment on column sequence_outcomes.collapsed is
    'Whether the model has collapsed by the rule at this checkpoint. Boolean.';
comment on column sequence_outcomes.drift_norm is
    'sequence_steps.drift_norm after the step. Norm, no unit; inf and nan are kept.';
comment on column sequence_outcomes.relative_drift is
    'sequence_steps.relative_drift after the step. Ratio, no unit; inf and nan are kept.';
comment on column sequence_outcomes.text_change is
    'sequence_steps.text_change after the step. Ratio, no unit; inf and nan are kept.';
comment on column sequence_outcomes.step is 'Step: sequence_steps.step. Index from 1.';
comment on column sequence_outcomes.method is
    'What edits, by its name in the catalog: sequences.editor. Text.';
comment on column sequence_outcomes.edits_per_step is 'sequences.edits_per_step. Count.';
comment on column sequence_outcomes.guard_policy is
    'sequences.guard_policy. Text. NULL = no guard.';
comment on column sequence_outcomes.sequence_id is 'Sequence: sequences.sequence_id.';
comment on column sequence_outcomes.model_id is 'Model: models.model_id.';
comment on column sequence_outcomes.study_id is 'Study: studies.study_id.';
