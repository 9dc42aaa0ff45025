-- Tables of the results database: one for each row type of editcollapse.rows.study, and two of our own.
-- inf and nan are measurements and are kept; NULL means not measured. No foreign keys: rows arrive in
-- any order. No primary keys: storage.ingest keeps one row for each key, and an index would double the file
-- and the time to build it.

create table studies (
    study_id varchar not null,
    dataset_id varchar not null,
    evaluation_id varchar not null,
    name varchar not null,
    description varchar not null,
    seed bigint not null,
    numerics bigint not null,
    settings varchar not null
);
comment on table studies is 'Declared grids of models, methods and edit requests.';
comment on column studies.study_id is 'Digest of what the study asks. Key.';
comment on column studies.dataset_id is 'Dataset: datasets.dataset_id.';
comment on column studies.evaluation_id is 'Evaluation: evaluations.evaluation_id.';
comment on column studies.name is 'Name in the study file; what reports call the study. Text.';
comment on column studies.description is 'One sentence for people. Text.';
comment on column studies.seed is
    'Seeds the context templates and the choice of test prefixes. Integer.';
comment on column studies.numerics is
    'Version of the numbers (editcollapse.NUMERICS); only equal versions compare. Integer.';
comment on column studies.settings is 'The whole study as asked. JSON text.';

create table study_edits (
    study_id varchar not null,
    edit_id varchar not null
);
comment on table study_edits is 'Which edits belong to which study; an edit is computed once and may serve many.';
comment on column study_edits.study_id is 'Study: studies.study_id.';
comment on column study_edits.edit_id is 'Edit: edits.edit_id.';

create table study_models (
    study_id varchar not null,
    model_id varchar not null,
    layer bigint not null,
    name varchar not null
);
comment on table study_models is 'What each study calls its models.';
comment on column study_models.study_id is 'Study: studies.study_id. Key.';
comment on column study_models.model_id is 'Model: models.model_id. Key.';
comment on column study_models.layer is 'Block that the study edits, counted from 0. Key.';
comment on column study_models.name is 'What the study file calls the model. Text.';

create table models (
    model_id varchar not null,
    source varchar not null,
    family varchar not null,
    fingerprint varchar not null,
    tokenizer_digest varchar not null,
    dtype varchar not null,
    start_token varchar,
    n_layers bigint not null,
    d_model bigint not null,
    d_key bigint not null,
    n_parameters bigint not null,
    n_vocabulary bigint not null,
    quantization varchar,
    chat_template boolean
);
comment on table models is 'Models as loaded, each with its tokenizer and start-token policy.';
comment on column models.model_id is
    'Digest of the weights, tokenizer, dtype, start-token policy and chat template. Key.';
comment on column models.source is 'Hub id, folder or GGUF file that it was loaded from. Text.';
comment on column models.family is 'Architecture, such as gpt2 or llama. Text.';
comment on column models.fingerprint is
    'Digest of the configuration and weights as loaded. Hex digits.';
comment on column models.tokenizer_digest is 'Digest of the tokenizer. Hex digits.';
comment on column models.dtype is 'Type of the weights as loaded, such as float32. Text.';
comment on column models.start_token is
    'Start token (BOS) that opens every prompt that is in no chat template. Text. NULL = none does.';
comment on column models.n_layers is 'Transformer blocks. Count.';
comment on column models.d_model is 'Width of the residual stream. Components.';
comment on column models.d_key is
    'Width of the keys, the input of the MLP''s output projection. Components.';
comment on column models.n_parameters is 'Parameters. Count.';
comment on column models.n_vocabulary is 'Rows of the vocabulary. Tokens.';
comment on column models.quantization is
    'What a GGUF file''s weights were dequantised from, such as Q4_1. Text. NULL = plain numbers.';
comment on column models.chat_template is
    'Whether prompts are put into the tokenizer''s chat template, as the user''s message. NULL = not recorded, and no.';

create table datasets (
    dataset_id varchar not null,
    name varchar not null,
    schema_name varchar not null,
    n_records bigint not null,
    n_requests bigint not null,
    n_rejected bigint not null
);
comment on table datasets is 'Files of edit requests.';
comment on column datasets.dataset_id is 'Digest of the file''s bytes. Key.';
comment on column datasets.name is 'File name without folder and suffix. Text.';
comment on column datasets.schema_name is 'counterfact, counterfact_flat, zsre or zsre_flat. Text.';
comment on column datasets.n_records is 'Records in the file. Count.';
comment on column datasets.n_requests is 'Records accepted as edit requests. Count.';
comment on column datasets.n_rejected is 'Records refused; table rejections says why. Count.';

create table rejections (
    dataset_id varchar not null,
    model_id varchar not null,
    record_index bigint not null,
    case_id varchar,
    reason varchar not null
);
comment on table rejections is 'Records of a dataset, or edits of a model, that could not be used, with the reason.';
comment on column rejections.dataset_id is 'Dataset: datasets.dataset_id.';
comment on column rejections.model_id is
    'Model: models.model_id; the empty text where no model was involved.';
comment on column rejections.record_index is 'Place of the record in its file. Index from 0.';
comment on column rejections.case_id is
    'The dataset''s own name of the record. Text. NULL = it gives none.';
comment on column rejections.reason is 'What was found and what to do. One sentence.';

create table requests (
    dataset_id varchar not null,
    record_index bigint not null,
    request_id varchar not null,
    case_id varchar,
    subject varchar not null,
    prompt varchar not null,
    target_new varchar not null,
    target_true varchar,
    relation_id varchar,
    n_paraphrase_prompts bigint not null,
    n_neighborhood_prompts bigint not null
);
comment on table requests is 'Edit requests of a dataset.';
comment on column requests.dataset_id is 'Dataset: datasets.dataset_id.';
comment on column requests.record_index is 'Place of the record in its file. Index from 0.';
comment on column requests.request_id is
    'Edit request: requests.request_id, a digest of its content.';
comment on column requests.case_id is
    'The dataset''s own name of the record. Text. NULL = it gives none.';
comment on column requests.subject is 'The entity that is edited. Text.';
comment on column requests.prompt is 'Rewrite prompt, with {} where the subject stands. Text.';
comment on column requests.target_new is 'The object to be written. Text.';
comment on column requests.target_true is
    'The object believed before. Text. NULL = the dataset does not say.';
comment on column requests.relation_id is
    'Wikidata property of the fact, such as P17. Text. NULL = the dataset does not say.';
comment on column requests.n_paraphrase_prompts is
    'Prompts that state the same fact in other words. Count.';
comment on column requests.n_neighborhood_prompts is
    'Prompts about other subjects with the same true object. Count.';

create table positions (
    model_id varchar not null,
    request_id varchar not null,
    subject_position varchar not null,
    subject_first_index bigint not null,
    subject_last_index bigint not null,
    n_subject_tokens bigint not null,
    n_prompt_tokens bigint not null,
    is_first_token boolean not null,
    is_sequence_start boolean not null,
    subject_last_token varchar not null,
    n_target_new_tokens bigint not null,
    last_token_differs boolean
);
comment on table positions is 'Where the subject stands in its prompt, for each request under each model''s tokenizer.';
comment on column positions.model_id is 'Model: models.model_id.';
comment on column positions.request_id is
    'Edit request: requests.request_id, a digest of its content.';
comment on column positions.subject_position is
    'first_token (the subject starts the prompt and is one token), first_several (it starts the prompt with several tokens) or inside, as every subject in a chat template. Text.';
comment on column positions.subject_first_index is
    'Position of the subject''s first token in the model''s input, the start token counted where there is one. Index from 0.';
comment on column positions.subject_last_index is
    'Position of the subject''s last token, where keys are read, counted likewise. Index from 0.';
comment on column positions.n_subject_tokens is 'Length of the subject. Tokens.';
comment on column positions.n_prompt_tokens is
    'Length of the rewrite prompt with its subject, the start token not counted; with models.chat_template, of all the template''s text. Tokens.';
comment on column positions.is_first_token is
    'Whether the subject''s last token is the prompt''s first token, a start token aside. Boolean.';
comment on column positions.is_sequence_start is
    'Whether the subject''s last token has index 0 in the model''s input; false where a start token stands there. Boolean.';
comment on column positions.subject_last_token is 'The subject''s last token. Text.';
comment on column positions.n_target_new_tokens is 'Length of target_new. Tokens.';
comment on column positions.last_token_differs is
    'Whether in a context template the subject ends with a token of other characters than in the bare prompt, a blank in front aside: k0 and kbar are then keys of different tokens. Boolean. NULL = not looked at: an older row.';

create table templates (
    template_set_id varchar not null,
    template_index bigint not null,
    template varchar not null,
    token_ids bigint[] not null,
    kind varchar not null,
    seed bigint
);
comment on table templates is 'Context templates: texts put before a prompt, over which prefixed keys are averaged.';
comment on column templates.template_set_id is 'Digest of the whole set. Part of the key.';
comment on column templates.template_index is
    'Place in the set; 0 is the bare template {}. Index from 0.';
comment on column templates.template is 'The text, with {} where the prompt stands. Text.';
comment on column templates.token_ids is 'Tokens of the text before the slot. Token ids.';
comment on column templates.kind is
    'Where the template comes from: bare, five_words, start_token or file. Text.';
comment on column templates.seed is 'Seed it was generated with. Integer. NULL = not generated.';

create table covariances (
    covariance_id varchar not null,
    model_id varchar not null,
    layer bigint not null,
    kind varchar not null,
    source varchar not null,
    source_digest varchar not null,
    n_tokens bigint not null,
    n_texts bigint not null,
    damping double not null,
    trace double not null,
    accumulation_error double,
    artifact_digest varchar,
    tokens_per_d_key double,
    condition_number double
);
comment on table covariances is 'Second moments C = E[k kT] of one layer''s keys; not centred.';
comment on column covariances.covariance_id is
    'Digest of the model, layer, corpus and settings. Key.';
comment on column covariances.model_id is 'Model: models.model_id.';
comment on column covariances.layer is 'Block whose keys were read. Index from 0.';
comment on column covariances.kind is
    'corpus or samples (measured), identity (C is left out) or statistics (published). Text.';
comment on column covariances.source is 'The corpus or file it comes from. Text.';
comment on column covariances.source_digest is 'Digest of the source''s content. Hex digits.';
comment on column covariances.n_tokens is 'Keys averaged; 0 for the identity. Tokens.';
comment on column covariances.n_texts is 'Texts read; 0 for the identity. Count.';
comment on column covariances.damping is
    'Added to C''s diagonal, in units of the diagonal''s mean. No unit.';
comment on column covariances.trace is
    'Trace of C before damping: mean squared norm of a key. Squared norm, no unit.';
comment on column covariances.accumulation_error is
    'Estimated relative rounding error of the running sum. No unit. NULL = not measured.';
comment on column covariances.artifact_digest is
    'Digest of the tensor file. Hex digits. NULL = no file: the identity.';
comment on column covariances.tokens_per_d_key is
    'n_tokens over models.d_key, the dimensions of C. Tokens a dimension. NULL = the identity, or measured by an earlier version.';
comment on column covariances.condition_number is
    'Largest eigenvalue of C over its smallest, without damping, to three digits. Ratio, no unit; inf where C has no Cholesky factor. NULL as tokens_per_d_key.';

create table covariance_convergence (
    covariance_id varchar not null,
    n_shards bigint not null,
    n_tokens bigint not null,
    tokens_per_d_key double not null,
    probe_set_id varchar not null,
    n_probes bigint not null,
    median_change double,
    max_change double
);
comment on table covariance_convergence is
    'How far directions u = C^-1 kbar / ||C^-1 kbar|| of probe keys still moved as C took in tokens: one row at each doubling of the shards, and at the last.';
comment on column covariance_convergence.covariance_id is
    'Second moment: covariances.covariance_id.';
comment on column covariance_convergence.n_shards is 'Shards of the corpus summed so far. Count.';
comment on column covariance_convergence.n_tokens is 'Keys summed so far. Tokens.';
comment on column covariance_convergence.tokens_per_d_key is
    'n_tokens over the width of a key; C is singular below 1. Ratio, no unit.';
comment on column covariance_convergence.probe_set_id is
    'Digest of the context templates and requests whose prefixed keys are the probes. Hex digits.';
comment on column covariance_convergence.n_probes is 'Probe keys. Count.';
comment on column covariance_convergence.median_change is
    'Median over the probes of ||u - u before||, against the row before; u has norm 1. 0 to 2. NULL = first row, or C is singular, there or here.';
comment on column covariance_convergence.max_change is
    'Largest over the probes of ||u - u before||. 0 to 2. NULL as median_change.';

create table value_settings (
    settings_id varchar not null,
    steps bigint not null,
    learning_rate double not null,
    weight_decay double not null,
    kl_factor double not null,
    clamp_factor double not null,
    stop_loss double not null,
    source varchar not null
);
comment on table value_settings is 'Settings of the v* optimisation.';
comment on column value_settings.settings_id is 'Digest of the settings. Key.';
comment on column value_settings.steps is 'Forward passes at most. Count.';
comment on column value_settings.learning_rate is 'Adam''s learning rate. No unit.';
comment on column value_settings.weight_decay is
    'Weight of ||delta|| / ||v0||^2 in the loss. No unit.';
comment on column value_settings.kl_factor is 'Weight of the KL term in the loss. No unit.';
comment on column value_settings.clamp_factor is 'Largest ||delta|| in units of ||v0||. No unit.';
comment on column value_settings.stop_loss is 'The optimisation stops below this loss. Nats.';
comment on column value_settings.source is
    'Preset, paper or study file the settings come from. Text.';

create table edits (
    edit_id varchar not null,
    model_id varchar not null,
    request_id varchar not null,
    covariance_id varchar not null,
    template_set_id varchar not null,
    settings_id varchar not null,
    method varchar not null,
    layer bigint not null,
    layer_source varchar not null,
    numerator_norm double,
    denominator double,
    rho double,
    bare_key_norm double,
    prefixed_key_norm double,
    key_cosine double,
    bare_key_dot double,
    prefixed_key_dot double,
    delta_norm double,
    bare_value_norm double,
    update_norm double not null,
    relative_update_norm double not null,
    update_norm_bound double,
    n_steps bigint not null,
    loss double not null,
    loss_nll double not null,
    loss_kl double,
    loss_weight_decay double,
    target_probability double not null,
    clamp_hit boolean,
    update_digest varchar,
    update_row bigint,
    text_change double
);
comment on table edits is 'Single edits of one model by one method, with their diagnostics. A rank-one method writes W'' = W + r uT / (a . u), u = C^-1 b / ||C^-1 b||; joint and gradient editors have no such factors.';
comment on column edits.edit_id is 'Digest of the model, request, method and all settings. Key.';
comment on column edits.model_id is 'Model: models.model_id.';
comment on column edits.request_id is 'Edit request: requests.request_id, a digest of its content.';
comment on column edits.covariance_id is 'Second moment: covariances.covariance_id.';
comment on column edits.template_set_id is 'Set of context templates: templates.template_set_id.';
comment on column edits.settings_id is
    'Settings of the v* optimisation: value_settings.settings_id; of an editor beyond rank one its other settings too: editor_settings.settings_id.';
comment on column edits.method is
    'rome, c_rome, r_rome, p_rome or v_relative: which key is b and a, and what r is; of edits that are made, not foreseen, another editor too: memit, memit_seq, emmet, alphaedit, rect, prune, encore, nas, ft, ft_l, ft_m or locft_bf. Text.';
comment on column edits.layer is
    'Edited block; of a joint editor, which edits several, the last. Index from 0.';
comment on column edits.layer_source is 'Who chose the layer: the study file or a preset. Text.';
comment on column edits.numerator_norm is
    '||r||: norm of what is written. Norm, no unit. NULL = not a rank-one method.';
comment on column edits.denominator is
    'a . u, signed, with ||u|| = 1: what the update divides by. No unit. NULL = not a rank-one method.';
comment on column edits.rho is
    '(k0 . u) / (kbar . u), signed, by the method''s own u: one for all methods but p_rome, which solves with k0 and is compared with none of them by it; near 0 or negative forecasts ROME''s collapse. Ratio, no unit. NULL = not a rank-one method.';
comment on column edits.bare_key_norm is
    '||k0||: norm of the bare prompt''s key. Norm, no unit. NULL = not a rank-one method.';
comment on column edits.prefixed_key_norm is
    '||kbar||: norm of the mean key over the context templates. Norm, no unit. NULL = not a rank-one method.';
comment on column edits.key_cosine is
    'Cosine of the angle between k0 and kbar. -1 to 1. NULL = not a rank-one method.';
comment on column edits.bare_key_dot is
    'k0 . u, signed, by the method''s own u as rho: ROME''s denominator. No unit. NULL = not a rank-one method.';
comment on column edits.prefixed_key_dot is
    'kbar . u, signed, by the method''s own u as rho: C-ROME''s denominator. No unit. NULL = not a rank-one method.';
comment on column edits.delta_norm is
    '||delta||: norm of the optimised change of the value. Norm, no unit. NULL = not a rank-one method.';
comment on column edits.bare_value_norm is
    '||v0||: norm of the unedited value at the bare prompt. Norm, no unit. NULL = not a rank-one method.';
comment on column edits.update_norm is
    'Frobenius norm of the update, ||r|| / |a . u| of a rank-one method; over all edited layers together where there are several. Norm, no unit.';
comment on column edits.relative_update_norm is
    'update_norm / ||W||, Frobenius; both over all edited layers together where there are several. Ratio, no unit.';
comment on column edits.update_norm_bound is
    'clamp_factor * ||v0|| / |k0 . u|: upper bound of ROME''s update_norm, known before any optimisation. Norm, no unit. NULL = not a rank-one method.';
comment on column edits.n_steps is
    'Steps of Adam that the v* optimisation took. It ran one forward pass more: the last only finds that the loss is low enough or that no pass is left (value_settings.steps counts passes). Count.';
comment on column edits.loss is 'Final loss, the sum of the three terms. Nats.';
comment on column edits.loss_nll is
    'Final loss term: mean NLL of target_new over the context templates. Nats a token.';
comment on column edits.loss_kl is
    'Final loss term: kl_factor * KL divergence on the essence prompt. Nats. NULL = not a rank-one method.';
comment on column edits.loss_weight_decay is
    'Final loss term: weight_decay * ||delta|| / ||v0||^2. No unit. NULL = not a rank-one method.';
comment on column edits.target_probability is
    'exp(-NLL) of target_new with the final delta, mean over the context templates. Fraction 0-1.';
comment on column edits.clamp_hit is
    'Whether ||delta|| reached clamp_factor * ||v0||. Boolean. NULL = not a rank-one method.';
comment on column edits.update_digest is
    'Digest of the tensor file that holds the update''s two factors. Hex digits. NULL = not a rank-one method: its update is not kept.';
comment on column edits.update_row is
    'Row of the edit in that file. Index from 0. NULL = not a rank-one method: its update is not kept.';
comment on column edits.text_change is
    'sqrt(tr(dW C dWT) / tr(W C WT)) with C undamped: change of the layer''s W k by the edit, root mean square over the keys of C, in units of W k''s own; known as soon as v* is. Ratio, no unit; inf where the denominator is 0. NULL = made by an earlier version.';

create table evaluations (
    evaluation_id varchar not null,
    text_set varchar not null,
    text_set_digest varchar not null,
    n_texts bigint not null,
    n_texts_rejected bigint not null,
    seed bigint not null
);
comment on table evaluations is 'What edited models are measured on.';
comment on column evaluations.evaluation_id is 'Digest of the text set and settings. Key.';
comment on column evaluations.text_set is 'Name of the perplexity texts. Text.';
comment on column evaluations.text_set_digest is 'Digest of the texts. Hex digits.';
comment on column evaluations.n_texts is 'Texts used. Count.';
comment on column evaluations.n_texts_rejected is
    'Texts refused, such as those of fewer than two tokens. Count.';
comment on column evaluations.seed is 'Seeds the choice of test prefixes. Integer.';

create table base_perplexities (
    model_id varchar not null,
    evaluation_id varchar not null,
    perplexity double not null,
    perplexity_median double not null,
    perplexity_max double not null,
    nll_mean double not null,
    n_texts bigint not null,
    n_tokens bigint not null
);
comment on table base_perplexities is 'Perplexity of each unedited model on each text set.';
comment on column base_perplexities.model_id is 'Model: models.model_id.';
comment on column base_perplexities.evaluation_id is 'Evaluation: evaluations.evaluation_id.';
comment on column base_perplexities.perplexity is
    'Arithmetic mean over the texts of exp(mean token NLL) (ME-PPL''s definition). No unit; inf and nan are measurements and are kept.';
comment on column base_perplexities.perplexity_median is
    'Median over the texts of exp(mean token NLL). No unit; inf and nan are kept.';
comment on column base_perplexities.perplexity_max is
    'Largest over the texts of exp(mean token NLL). No unit; inf and nan are kept.';
comment on column base_perplexities.nll_mean is
    'Mean over the texts of the mean token negative log-likelihood. Nats a token; inf and nan are kept.';
comment on column base_perplexities.n_texts is 'Texts measured. Count.';
comment on column base_perplexities.n_tokens is 'Tokens scored over all texts. Tokens.';

create table base_measurements (
    model_id varchar not null,
    request_id varchar not null,
    evaluation_id varchar not null,
    template_set_id varchar not null,
    efficacy double not null,
    efficacy_one_prefix double,
    efficacy_prefix_mean double,
    efficacy_prefix_min double,
    efficacy_prefix_max double,
    generalization double,
    locality double,
    efficacy_score double,
    efficacy_magnitude double,
    paraphrase_score double,
    paraphrase_magnitude double,
    neighborhood_score double,
    neighborhood_magnitude double,
    target_new_nll double not null,
    target_true_nll double,
    prefix_index bigint
);
comment on table base_measurements is 'Answers of each unedited model to the probes of each request.';
comment on column base_measurements.model_id is 'Model: models.model_id.';
comment on column base_measurements.request_id is
    'Edit request: requests.request_id, a digest of its content.';
comment on column base_measurements.evaluation_id is 'Evaluation: evaluations.evaluation_id.';
comment on column base_measurements.template_set_id is
    'Set of context templates: templates.template_set_id.';
comment on column base_measurements.efficacy is
    'Rewrite prompt: share of target_new''s tokens that are the argmax, teacher-forced (EasyEdit). Fraction 0-1.';
comment on column base_measurements.efficacy_one_prefix is
    'Efficacy with one context template around the rewrite prompt (prefix_index says which). Fraction 0-1. NULL = not measured.';
comment on column base_measurements.efficacy_prefix_mean is
    'Efficacy averaged over all context templates of the set but the bare one. Fraction 0-1. NULL = not measured.';
comment on column base_measurements.efficacy_prefix_min is
    'Efficacy with the context template where it is lowest. Fraction 0-1. NULL = not measured.';
comment on column base_measurements.efficacy_prefix_max is
    'Efficacy with the context template where it is highest. Fraction 0-1. NULL = not measured.';
comment on column base_measurements.generalization is
    'Paraphrase prompts: share of target_new''s tokens that are the argmax, mean over prompts (EasyEdit). Fraction 0-1. NULL = not measured: the request has no paraphrase prompt.';
comment on column base_measurements.locality is
    'Neighborhood prompts: share of answer tokens whose argmax is that of the unedited model, mean over prompts (EasyEdit). Fraction 0-1. NULL = not measured: the request has no neighborhood prompt with a target.';
comment on column base_measurements.efficacy_score is
    'Rewrite prompt: 1 where target_new is likelier than target_true (CounterFact''s ES). Fraction 0-1. NULL = not measured: no target_true.';
comment on column base_measurements.efficacy_magnitude is
    'Rewrite prompt: exp(-NLL) of target_new minus that of target_true (CounterFact''s EM). Difference of probabilities, -1 to 1. NULL = not measured: no target_true.';
comment on column base_measurements.paraphrase_score is
    'Share of paraphrase prompts where target_new is likelier than target_true (CounterFact''s PS). Fraction 0-1. NULL = not measured: no target_true or no paraphrase prompt.';
comment on column base_measurements.paraphrase_magnitude is
    'Paraphrase prompts: exp(-NLL) of target_new minus that of target_true, mean (CounterFact''s PM). Difference of probabilities, -1 to 1. NULL = not measured.';
comment on column base_measurements.neighborhood_score is
    'Share of neighborhood prompts where target_true is likelier than target_new (CounterFact''s NS). Fraction 0-1. NULL = not measured: no target_true or no neighborhood prompt.';
comment on column base_measurements.neighborhood_magnitude is
    'Neighborhood prompts: exp(-NLL) of target_true minus that of target_new, mean (CounterFact''s NM). Difference of probabilities, -1 to 1. NULL = not measured.';
comment on column base_measurements.target_new_nll is
    'Rewrite prompt: mean negative log-likelihood of target_new''s tokens. Nats a token; inf and nan are kept.';
comment on column base_measurements.target_true_nll is
    'Rewrite prompt: mean negative log-likelihood of target_true''s tokens. Nats a token; inf and nan are kept. NULL = not measured: no target_true.';
comment on column base_measurements.prefix_index is
    'templates.template_index of the template used for efficacy_one_prefix. Index from 0. NULL = not measured.';

create table measurements (
    edit_id varchar not null,
    evaluation_id varchar not null,
    efficacy double not null,
    efficacy_one_prefix double,
    efficacy_prefix_mean double,
    efficacy_prefix_min double,
    efficacy_prefix_max double,
    generalization double,
    locality double,
    efficacy_score double,
    efficacy_magnitude double,
    paraphrase_score double,
    paraphrase_magnitude double,
    neighborhood_score double,
    neighborhood_magnitude double,
    target_new_nll double not null,
    target_true_nll double,
    prefix_index bigint,
    perplexity double not null,
    perplexity_median double not null,
    perplexity_max double not null,
    nll_mean double not null,
    n_texts bigint not null
);
comment on table measurements is 'Answers of each edited model to its request''s probes, and how well it still models text.';
comment on column measurements.edit_id is 'Edit: edits.edit_id.';
comment on column measurements.evaluation_id is 'Evaluation: evaluations.evaluation_id.';
comment on column measurements.efficacy is
    'Rewrite prompt: share of target_new''s tokens that are the argmax, teacher-forced (EasyEdit). Fraction 0-1.';
comment on column measurements.efficacy_one_prefix is
    'Efficacy with one context template around the rewrite prompt (prefix_index says which). Fraction 0-1. NULL = not measured.';
comment on column measurements.efficacy_prefix_mean is
    'Efficacy averaged over all context templates of the set but the bare one. Fraction 0-1. NULL = not measured.';
comment on column measurements.efficacy_prefix_min is
    'Efficacy with the context template where it is lowest. Fraction 0-1. NULL = not measured.';
comment on column measurements.efficacy_prefix_max is
    'Efficacy with the context template where it is highest. Fraction 0-1. NULL = not measured.';
comment on column measurements.generalization is
    'Paraphrase prompts: share of target_new''s tokens that are the argmax, mean over prompts (EasyEdit). Fraction 0-1. NULL = not measured: the request has no paraphrase prompt.';
comment on column measurements.locality is
    'Neighborhood prompts: share of answer tokens whose argmax is that of the unedited model, mean over prompts (EasyEdit). Fraction 0-1. NULL = not measured: the request has no neighborhood prompt with a target.';
comment on column measurements.efficacy_score is
    'Rewrite prompt: 1 where target_new is likelier than target_true (CounterFact''s ES). Fraction 0-1. NULL = not measured: no target_true.';
comment on column measurements.efficacy_magnitude is
    'Rewrite prompt: exp(-NLL) of target_new minus that of target_true (CounterFact''s EM). Difference of probabilities, -1 to 1. NULL = not measured: no target_true.';
comment on column measurements.paraphrase_score is
    'Share of paraphrase prompts where target_new is likelier than target_true (CounterFact''s PS). Fraction 0-1. NULL = not measured: no target_true or no paraphrase prompt.';
comment on column measurements.paraphrase_magnitude is
    'Paraphrase prompts: exp(-NLL) of target_new minus that of target_true, mean (CounterFact''s PM). Difference of probabilities, -1 to 1. NULL = not measured.';
comment on column measurements.neighborhood_score is
    'Share of neighborhood prompts where target_true is likelier than target_new (CounterFact''s NS). Fraction 0-1. NULL = not measured: no target_true or no neighborhood prompt.';
comment on column measurements.neighborhood_magnitude is
    'Neighborhood prompts: exp(-NLL) of target_true minus that of target_new, mean (CounterFact''s NM). Difference of probabilities, -1 to 1. NULL = not measured.';
comment on column measurements.target_new_nll is
    'Rewrite prompt: mean negative log-likelihood of target_new''s tokens. Nats a token; inf and nan are kept.';
comment on column measurements.target_true_nll is
    'Rewrite prompt: mean negative log-likelihood of target_true''s tokens. Nats a token; inf and nan are kept. NULL = not measured: no target_true.';
comment on column measurements.prefix_index is
    'templates.template_index of the template used for efficacy_one_prefix. Index from 0. NULL = not measured.';
comment on column measurements.perplexity is
    'Arithmetic mean over the texts of exp(mean token NLL) (ME-PPL''s definition). No unit; inf and nan are measurements and are kept.';
comment on column measurements.perplexity_median is
    'Median over the texts of exp(mean token NLL). No unit; inf and nan are kept.';
comment on column measurements.perplexity_max is
    'Largest over the texts of exp(mean token NLL). No unit; inf and nan are kept.';
comment on column measurements.nll_mean is
    'Mean over the texts of the mean token negative log-likelihood. Nats a token; inf and nan are kept.';
comment on column measurements.n_texts is 'Texts measured. Count.';

create table provenance (
    unit_id varchar not null,
    kind varchar not null,
    summary varchar not null,
    n_items bigint not null,
    started_at varchar not null,
    duration_s double not null,
    machine varchar not null,
    device varchar not null,
    numerics bigint not null,
    editcollapse_version varchar not null,
    torch_version varchar not null,
    transformers_version varchar not null,
    python_version varchar not null,
    git_commit varchar,
    seed bigint not null,
    study varchar,
    study_id varchar,
    model varchar,
    model_id varchar
);
comment on table provenance is 'How each unit of work came about; one unit is one cached task.';
comment on column provenance.unit_id is 'Digest of the unit''s inputs. Key.';
comment on column provenance.kind is
    'What the unit computed, such as edits or evaluation; study, single edit and reevaluation: nothing, a study was run as that for the first time. Text.';
comment on column provenance.summary is 'The unit in words. Text.';
comment on column provenance.n_items is 'Rows or edits it produced. Count.';
comment on column provenance.started_at is 'When it began. UTC, ISO 8601 text.';
comment on column provenance.duration_s is 'How long it took. Seconds.';
comment on column provenance.machine is 'Host name. Text.';
comment on column provenance.device is
    'Device it ran on, such as cpu or cuda:0 with its name. Text.';
comment on column provenance.numerics is 'Version of the numbers (editcollapse.NUMERICS). Integer.';
comment on column provenance.editcollapse_version is 'Version of editcollapse. Text.';
comment on column provenance.torch_version is 'Version of torch. Text.';
comment on column provenance.transformers_version is 'Version of transformers. Text.';
comment on column provenance.python_version is 'Version of Python. Text.';
comment on column provenance.git_commit is
    'Commit of the checkout. Hex digits. NULL = not a checkout.';
comment on column provenance.seed is 'The study''s seed. Integer.';
comment on column provenance.study is
    'Name of the study whose run computed it; others that need it find it. Text. NULL = computed for none, or by an earlier version.';
comment on column provenance.study_id is
    'That study: studies.study_id, if it was run and not only forecast or swept. NULL as study.';
comment on column provenance.model is
    'What that study calls the model that the unit is about. Text. NULL = it is about none that a study edits, or was computed by an earlier version.';
comment on column provenance.model_id is 'That model: models.model_id. NULL as model.';

create table row_files (
    table_name varchar not null,
    digest varchar not null,
    n_rows bigint not null,
    place bigint not null
);
comment on table row_files is 'Row files whose rows are in the tables, each once; of two rows with one key the later file''s counts.';
comment on column row_files.table_name is 'Table the file''s rows went to. Text. Key.';
comment on column row_files.digest is 'Digest of the file''s bytes; its name under artifacts/rows. Hex digits. Key.';
comment on column row_files.n_rows is 'Rows in the file. Count.';
comment on column row_files.place is 'Order in which the files count; a rebuild follows it. Count from 1.';

create table schema_version (
    digest varchar not null
);
comment on table schema_version is 'Which schema this database was built with: one row.';
comment on column schema_version.digest is
    'Digest of the schema and of the default rule of collapse; a database of another one is built anew from the row files. Hex digits.';
