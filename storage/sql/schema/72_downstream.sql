-- What lm-evaluation-harness scores models, unedited, edited and exported.

create table downstream_scores (
    score_set_id varchar not null,
    task varchar not null,
    metric varchar not null,
    filter varchar not null,
    model_id varchar not null,
    kind varchar not null,
    edit_id varchar,
    sequence_id varchar,
    step bigint,
    label varchar not null,
    asked_task varchar not null,
    task_digest varchar,
    task_version varchar,
    value double,
    stderr double,
    higher_is_better boolean,
    n_samples bigint not null,
    n_without_answer bigint not null,
    n_shot bigint,
    sample_limit bigint,
    chat_template boolean not null,
    harness_version varchar not null
);
comment on table downstream_scores is
    'Scores of downstream tasks by lm-evaluation-harness, of models with an update in their weights, without one, and exported: one row a metric.';
comment on column downstream_scores.score_set_id is
    'Digest of the model, its update, the task and how it was asked. Key.';
comment on column downstream_scores.task is
    'Task, or group of tasks, as lm_eval calls it. Text. Key.';
comment on column downstream_scores.metric is 'Metric as lm_eval calls it, such as acc. Text. Key.';
comment on column downstream_scores.filter is
    'What lm_eval made of the answers before it scored them; none: nothing. Text. Key.';
comment on column downstream_scores.model_id is
    'The unedited model, models.model_id; of an exported one its own id.';
comment on column downstream_scores.kind is
    'unedited, edit (a stored single edit), sequence (the sum of a sequence''s updates) or exported. Text.';
comment on column downstream_scores.edit_id is 'Edit: edits.edit_id. NULL = another kind.';
comment on column downstream_scores.sequence_id is
    'Sequence: sequences.sequence_id. NULL = another kind.';
comment on column downstream_scores.step is
    'Last step of the sequence that counts: sequence_steps.step. Index from 1. NULL = no sequence.';
comment on column downstream_scores.label is 'What was done to the model, for people. Text.';
comment on column downstream_scores.asked_task is
    'Task, group or tag that was asked for, of which this task is one. Text.';
comment on column downstream_scores.task_digest is
    'Digest of a local task''s YAML and data. Hex digits. NULL = a task of lm_eval''s own.';
comment on column downstream_scores.task_version is
    'metadata.version of the task. Text. NULL = it states none.';
comment on column downstream_scores.value is
    'The score. Unit of the metric; acc is a fraction 0-1, inf is kept. NULL = not known: the model''s logits are no numbers, or the score is none.';
comment on column downstream_scores.stderr is
    'Standard error of a mean over the items. Unit of the metric. NULL = value is, or it is no mean, or of one item.';
comment on column downstream_scores.higher_is_better is
    'Whether a larger score is the better one. Boolean. NULL = lm_eval does not say.';
comment on column downstream_scores.n_samples is 'Items that were asked. Count.';
comment on column downstream_scores.n_without_answer is
    'Requests of all that were asked at once whose log-likelihood or first logits were NaN. Count.';
comment on column downstream_scores.n_shot is
    'Examples before each item. Count. NULL = a group whose tasks differ.';
comment on column downstream_scores.sample_limit is
    'Items of each task at most. Count. NULL = all of them.';
comment on column downstream_scores.chat_template is
    'Whether items were put into the tokenizer''s chat template. Boolean.';
comment on column downstream_scores.harness_version is
    'Version of lm_eval, such as 0.4.13. Text.';
