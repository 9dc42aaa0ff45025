-- One model edited many times: what each step wrote, how far the weights are from where they were, and
-- what the model says on the way.

create table editor_settings (
    settings_id varchar not null,
    editor varchar not null,
    layers bigint[] not null,
    second_moment_weight double,
    settings varchar not null,
    source varchar not null
);
comment on table editor_settings is 'Settings of editors beyond rank one, of single edits and of sequences; those of their optimisation stand in value_settings too.';
comment on column editor_settings.settings_id is 'Digest of the editor and its settings. Key.';
comment on column editor_settings.editor is 'What edits, as edits.method. Text.';
comment on column editor_settings.layers is 'Edited blocks. Indices from 0.';
comment on column editor_settings.second_moment_weight is
    'lambda: weight of C in the normal equation. No unit. NULL = an editor without C there.';
comment on column editor_settings.settings is
    'All settings; null is worked out from C by the rules of docs/editors.md. JSON text.';
comment on column editor_settings.source is
    'Where such settings are published for such a model, or unpublished. Text.';

create table sequences (
    sequence_id varchar not null,
    model_id varchar not null,
    editor varchar not null,
    layers bigint[] not null,
    settings_id varchar not null,
    order_seed bigint not null,
    edits_per_step bigint not null,
    evaluation_id varchar not null,
    template_set_id varchar not null,
    guard_policy varchar,
    guard_bound double,
    restraint varchar
);
comment on table sequences is 'Sequences of edits: one model, one editor, one order of the requests.';
comment on column sequences.sequence_id is
    'Digest of the model, the editor, its settings, the requests in their order and the evaluation. Key.';
comment on column sequences.model_id is 'Model: models.model_id.';
comment on column sequences.editor is
    'What edits: a rank-one method or another editor, as edits.method. Text.';
comment on column sequences.layers is 'Edited blocks. Indices from 0.';
comment on column sequences.settings_id is
    'Digest of the editor''s settings: editor_settings.settings_id; of a rank-one method value_settings.settings_id.';
comment on column sequences.order_seed is 'Seeds the permutation of the requests. Integer.';
comment on column sequences.edits_per_step is
    'Edits that are written at once; the last step may have fewer. Count.';
comment on column sequences.evaluation_id is
    'What the model is measured on: evaluations.evaluation_id.';
comment on column sequences.template_set_id is
    'Set of context templates: templates.template_set_id.';
comment on column sequences.guard_policy is
    'What the guard does where a step passes its bound: stop (the sequence), skip (the step) or roll back. Text. NULL = no guard.';
comment on column sequences.guard_bound is
    'sequence_steps.text_change from which on the guard acts. Ratio, no unit. NULL = no guard.';
comment on column sequences.restraint is
    'What the study makes of the sum of updates, whoever edits: linear, log, log2, log1_5 or log1_2 (PRUNE). Text. NULL = no more than the editor itself.';

create table study_sequences (
    study_id varchar not null,
    sequence_id varchar not null,
    model varchar not null,
    editor varchar not null,
    n_edits bigint not null
);
comment on table study_sequences is 'Which sequences belong to which study, and what the study calls their model and editor; a sequence is computed once and may serve many.';
comment on column study_sequences.study_id is 'Study: studies.study_id.';
comment on column study_sequences.sequence_id is 'Sequence: sequences.sequence_id.';
comment on column study_sequences.model is 'What the study file calls the model. Text.';
comment on column study_sequences.editor is
    'What the study file calls the editor: its name, or one of its own where an editor stands there twice. Text.';
comment on column study_sequences.n_edits is
    'Edits that the study asks for; the sequence may be longer for another study. Count.';

create table sequence_steps (
    sequence_id varchar not null,
    step bigint not null,
    n_edits bigint not null,
    decision varchar not null,
    update_norm double not null,
    drift_norm double not null,
    relative_drift double not null,
    text_change double not null,
    loss double,
    target_probability double,
    n_passes bigint not null,
    is_finite boolean not null
);
comment on table sequence_steps is 'Each step of each sequence: what was decided and written, and how far the weights are from where they were. Norms are Frobenius norms over all edited layers together.';
comment on column sequence_steps.sequence_id is 'Sequence: sequences.sequence_id. Key.';
comment on column sequence_steps.step is 'Step. Index from 1; 0 is the unedited model and has no row. Key.';
comment on column sequence_steps.n_edits is
    'Edits asked for up to and including this step, also those that a guard kept out. Count.';
comment on column sequence_steps.decision is
    'applied; what the guard did: skipped, stopped or rolled back; or unusable: the model can take no fact of the step, and nothing was written (table rejections says why). Text.';
comment on column sequence_steps.update_norm is
    '||dW||: norm of what this step writes or, where the guard kept it out, would have written. Norm, no unit; inf and nan are kept.';
comment on column sequence_steps.drift_norm is
    '||W_t - W_0||: distance from the unedited weights after the step. Norm, no unit; inf and nan are kept.';
comment on column sequence_steps.relative_drift is
    'drift_norm / ||W_0||. Ratio, no unit; inf and nan are kept.';
comment on column sequence_steps.text_change is
    'sqrt(tr(D C DT) / tr(W_0 C W_0T)) with D = W_t - W_0, the sum of all updates so far, and C undamped; the largest over the edited layers. Closed form: known without any evaluation. Ratio, no unit; inf and nan are kept.';
comment on column sequence_steps.loss is
    'Final loss of the optimisation, mean over the step''s edits. Nats. NULL = nothing was optimised.';
comment on column sequence_steps.target_probability is
    'exp(-NLL) of target_new at the end of the optimisation, mean over the step''s edits. Fraction 0-1. NULL = nothing was optimised.';
comment on column sequence_steps.n_passes is
    'Forward passes of the optimisation, summed over the step''s edits. Count.';
comment on column sequence_steps.is_finite is
    'Whether all edited weights are finite after the step. Boolean.';

create table sequence_layers (
    sequence_id varchar not null,
    step bigint not null,
    layer bigint not null,
    drift_norm double not null,
    relative_drift double not null,
    spectral_norm double not null,
    relative_spectral_norm double not null,
    text_change double not null,
    kept_dimensions bigint
);
comment on table sequence_layers is 'Each edited layer of each sequence at its checkpoints: the sum D of all updates so far.';
comment on column sequence_layers.sequence_id is 'Sequence: sequences.sequence_id. Key.';
comment on column sequence_layers.step is 'Step: sequence_steps.step. Index from 1. Key.';
comment on column sequence_layers.layer is 'Edited block. Index from 0. Key.';
comment on column sequence_layers.drift_norm is
    '||D||, Frobenius. Norm, no unit; inf and nan are kept.';
comment on column sequence_layers.relative_drift is
    'drift_norm over the norm of the layer''s unedited matrix. Ratio, no unit; inf and nan are kept.';
comment on column sequence_layers.spectral_norm is
    'Largest singular value of D. Norm, no unit; inf and nan are kept.';
comment on column sequence_layers.relative_spectral_norm is
    'spectral_norm over the largest singular value of the layer''s unedited matrix. Ratio, no unit; inf and nan are kept.';
comment on column sequence_layers.text_change is
    'sqrt(tr(D C DT) / tr(W_0 C W_0T)) of this layer. Ratio, no unit; inf and nan are kept.';
comment on column sequence_layers.kept_dimensions is
    'Directions of the keys that the null-space projection keeps free to edit. Count. NULL = an editor without one.';

create table sequence_checkpoints (
    sequence_id varchar not null,
    step bigint not null,
    n_edits bigint not null,
    perplexity double not null,
    perplexity_median double not null,
    perplexity_max double not null,
    nll_mean double not null,
    n_texts bigint not null
);
comment on table sequence_checkpoints is 'Perplexity of the edited model at the checkpoints of each sequence. Of the unedited model, step 0: base_perplexities, by model_id and the sequence''s evaluation_id.';
comment on column sequence_checkpoints.sequence_id is 'Sequence: sequences.sequence_id. Key.';
comment on column sequence_checkpoints.step is 'Step: sequence_steps.step. Index from 1. Key.';
comment on column sequence_checkpoints.n_edits is
    'Edits asked for up to and including this step. Count.';
comment on column sequence_checkpoints.perplexity is
    'Arithmetic mean over the texts of exp(mean token NLL), as measurements.perplexity. No unit; inf and nan are measurements and are kept.';
comment on column sequence_checkpoints.perplexity_median is
    'Median over the texts of exp(mean token NLL). No unit; inf and nan are kept.';
comment on column sequence_checkpoints.perplexity_max is
    'Largest over the texts of exp(mean token NLL). No unit; inf and nan are kept.';
comment on column sequence_checkpoints.nll_mean is
    'Mean over the texts of the mean token negative log-likelihood. Nats a token; inf and nan are kept.';
comment on column sequence_checkpoints.n_texts is 'Texts measured. Count.';

create table sequence_scores (
    sequence_id varchar not null,
    step bigint not null,
    request_id varchar not null,
    moment varchar not null,
    edited_at bigint not null,
    efficacy double not null,
    efficacy_prefix_mean double,
    generalization double,
    locality double,
    efficacy_score double,
    paraphrase_score double,
    neighborhood_score double,
    target_new_nll double not null
);
comment on table sequence_scores is 'What the edited model answers to the probes of single edits of each sequence, right after they were made and at later checkpoints.';
comment on column sequence_scores.sequence_id is 'Sequence: sequences.sequence_id. Key.';
comment on column sequence_scores.step is
    'Step after which it was asked: sequence_steps.step. Index from 1. Key.';
comment on column sequence_scores.request_id is
    'Edit request: requests.request_id, a digest of its content. Key.';
comment on column sequence_scores.moment is
    'immediate (right after the edit''s own step) or final (at a checkpoint, of all edits so far or a fixed sample of them). Text. Key.';
comment on column sequence_scores.edited_at is
    'Step in which the request was edited. Index from 1.';
comment on column sequence_scores.efficacy is 'As measurements.efficacy. Fraction 0-1.';
comment on column sequence_scores.efficacy_prefix_mean is
    'As measurements.efficacy_prefix_mean. Fraction 0-1. NULL = not measured.';
comment on column sequence_scores.generalization is
    'As measurements.generalization. Fraction 0-1. NULL = not measured: the request has no paraphrase prompt.';
comment on column sequence_scores.locality is
    'As measurements.locality: beside the unedited model. Fraction 0-1. NULL = not measured: the request has no neighborhood prompt with a target.';
comment on column sequence_scores.efficacy_score is
    'As measurements.efficacy_score. Fraction 0-1. NULL = not measured: no target_true.';
comment on column sequence_scores.paraphrase_score is
    'As measurements.paraphrase_score. Fraction 0-1. NULL = not measured: no target_true or no paraphrase prompt.';
comment on column sequence_scores.neighborhood_score is
    'As measurements.neighborhood_score. Fraction 0-1. NULL = not measured: no target_true or no neighborhood prompt.';
comment on column sequence_scores.target_new_nll is
    'As measurements.target_new_nll. Nats a token; inf and nan are kept.';
