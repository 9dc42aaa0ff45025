-- How far are the weights from where they were after each step of each sequence?
create view sequence_drift as
select
    studies.name as study,
    study_sequences.model,
    study_sequences.editor,
    sequences.order_seed,
    steps.step,
    steps.n_edits,
    steps.decision,
    steps.update_norm,
    steps.drift_norm,
    steps.relative_drift,
    steps.text_change,
    steps.is_finite,
    sequences.editor as method,
    steps.sequence_id,
    study_sequences.study_id
from main.study_sequences
inner join main.sequences on sequences.sequence_id = study_sequences.sequence_id
inner join main.sequence_steps as steps
    on steps.sequence_id = study_sequences.sequence_id
    and steps.n_edits <= study_sequences.n_edits
left join main.studies on studies.study_id = study_sequences.study_id
order by
    study, study_sequences.study_id, main.model_order(study_sequences.study_id, study_sequences.model),
    study_sequences.model, main.method_order(sequences.editor), study_sequences.editor,
    sequences.order_seed, steps.sequence_id, steps.step;

comment on view sequence_drift is
    'Every step of every sequence: norm of its update and of the sum of all updates so far, and the change of the layers'' output on text. Known without any evaluation.';
comment on column sequence_drift.study is 'Name of the study. Text.';
comment on column sequence_drift.model is 'Name of the model in the study. Text.';
comment on column sequence_drift.editor is 'Name of the editor in the study. Text.';
comment on column sequence_drift.order_seed is 'Order of the requests: sequences.order_seed. Integer.';
comment on column sequence_drift.step is 'Step: sequence_steps.step. Index from 1.';
comment on column sequence_drift.n_edits is 'Edits asked for so far. Count.';
comment on column sequence_drift.decision is
    'sequence_steps.decision: applied, skipped, stopped, rolled back or unusable. Text.';
comment on column sequence_drift.update_norm is
    'sequence_steps.update_norm. Norm, no unit; inf and nan are kept.';
comment on column sequence_drift.drift_norm is
    'sequence_steps.drift_norm. Norm, no unit; inf and nan are kept.';
comment on column sequence_drift.relative_drift is
    'sequence_steps.relative_drift. Ratio, no unit; inf and nan are kept.';
comment on column sequence_drift.text_change is
    'sequence_steps.text_change. Ratio, no unit; inf and nan are kept.';
comment on column sequence_drift.is_finite is
    'Whether all edited weights are finite after the step. Boolean.';
comment on column sequence_drift.method is
    'What edits, by its name in the catalog: sequences.editor. Text.';
comment on column sequence_drift.sequence_id is 'Sequence: sequences.sequence_id.';
comment on column sequence_drift.study_id is 'Study: studies.study_id.';
