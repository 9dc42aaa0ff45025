-- Is an edited model, whoever made it, still alive? It beside the one that it was made from.

create table checks (
    check_id varchar not null,
    method varchar not null,
    model_id varchar not null,
    model_source varchar not null,
    edited_digest varchar not null,
    kind varchar not null,
    n_tensors bigint not null,
    n_changed bigint not null,
    n_not_finite bigint not null,
    relative_norm double not null,
    settings_changed varchar,
    text_change double,
    text_change_tensor varchar,
    n_unknown bigint not null,
    covariance varchar,
    n_tokens bigint,
    forecast varchar not null,
    forecast_probability double,
    forecast_low double,
    forecast_high double,
    forecast_why varchar not null,
    notes varchar,
    text_set varchar,
    text_set_digest varchar,
    n_texts bigint not null,
    perplexity_before double,
    perplexity_median_before double,
    nll_mean_before double,
    perplexity double,
    perplexity_median double,
    nll_mean double
);
comment on table checks is 'Edited models of any making (edits, merges, fine-tunes, quantisation), each beside the one that it was made from.';
comment on column checks.check_id is
    'Digest of both models, the texts, the facts and C. Key.';
comment on column checks.method is 'Always external: no method of ours made the edit. Text.';
comment on column checks.model_id is 'The unedited model: models.model_id, where a study has it.';
comment on column checks.model_source is
    'Where the unedited model comes from: hub id, folder or file, without the machine''s path. Text.';
comment on column checks.edited_digest is 'Digest of the edited model''s files.';
comment on column checks.kind is
    'What the edited model was given as: model, adapter (LoRA) or delta (changes by weight name). Text.';
comment on column checks.n_tensors is 'Tensors of the model, a tied head not among them. Count.';
comment on column checks.n_changed is 'Of these, tensors that differ. Count.';
comment on column checks.n_not_finite is 'Weights that are NaN or infinite in the edited model. Count.';
comment on column checks.relative_norm is
    'Frobenius norm of the difference of all tensors that differ over that of the same tensors before. Ratio.';
comment on column checks.settings_changed is
    'Fields of the configuration that differ, with commas. Text. NULL = none.';
comment on column checks.text_change is
    'The largest check_tensors.text_change. Ratio, no unit. NULL = not known of any tensor.';
comment on column checks.text_change_tensor is 'The tensor that has it. Text. NULL as text_change.';
comment on column checks.n_unknown is
    'Tensors that differ and of which no change on text is known: embeddings, norms, biases, heads. Count.';
comment on column checks.covariance is 'What C was taken over, in words. Text. NULL = no change on text is known.';
comment on column checks.n_tokens is 'Tokens that C was summed over. Count. NULL as covariance.';
comment on column checks.forecast is
    'What the difference alone lets expect: at risk, will collapse or not known. It warns of single differences of rank one of a down projection and calls nothing safe. Text.';
comment on column checks.forecast_probability is
    'P(collapse) of an edit of ROME''s family with this change on text, from measured edits of other models. Fraction 0-1. NULL = not of rank one at one down projection, or no change known.';
comment on column checks.forecast_low is 'Lower end of its 95 % interval. Fraction 0-1. NULL likewise.';
comment on column checks.forecast_high is 'Upper end. Fraction 0-1. NULL likewise.';
comment on column checks.forecast_why is 'Why the forecast is what it is. Text.';
comment on column checks.notes is
    'What else to know of the two models'' files, a line each. Text. NULL = nothing.';
comment on column checks.text_set is 'Name of the perplexity texts. Text. NULL = perplexity was not measured.';
comment on column checks.text_set_digest is 'Digest of their file. NULL likewise.';
comment on column checks.n_texts is 'Texts that both models were measured on; 0 where none was. Count.';
comment on column checks.perplexity_before is
    'Of the unedited model: mean over texts. exp(nats). NULL = not measured.';
comment on column checks.perplexity_median_before is 'Median over texts. exp(nats). NULL likewise.';
comment on column checks.nll_mean_before is
    'Mean over texts of the mean token NLL, unedited model. Nats. NULL likewise.';
comment on column checks.perplexity is
    'Of the edited model: mean over texts; nan where weights are no finite numbers. exp(nats). NULL = not measured.';
comment on column checks.perplexity_median is 'Median over texts. exp(nats). NULL likewise.';
comment on column checks.nll_mean is
    'Mean over texts of the mean token NLL, edited model. Nats. NULL likewise.';

create table check_names (
    check_id varchar not null,
    name varchar not null,
    edited_source varchar not null
);
comment on table check_names is 'What those who asked for a check call the edited model: it is measured once, and may have several names.';
comment on column check_names.check_id is 'Check: checks.check_id. Key with name.';
comment on column check_names.name is 'The label that was given, else edited_source. Text.';
comment on column check_names.edited_source is
    'Where the edited model came from: hub id, folder or file, without the machine''s path. Text.';

create table check_tensors (
    check_id varchar not null,
    tensor varchar not null,
    layer bigint,
    part varchar not null,
    shape bigint[] not null,
    n_entries bigint not null,
    n_changed bigint not null,
    n_not_finite bigint not null,
    max_abs double not null,
    norm double not null,
    weight_norm double not null,
    relative_norm double not null,
    spectral_norm double,
    effective_rank double,
    first_share double,
    text_change double,
    n_tokens bigint,
    tokens_per_input double
);
comment on table check_tensors is 'The tensors of an edited model that differ from those of the unedited one.';
comment on column check_tensors.check_id is 'Check: checks.check_id. Key with tensor.';
comment on column check_tensors.tensor is 'Name of the tensor, as transformers has it. Text.';
comment on column check_tensors.layer is 'Its block. Index from 0. NULL = outside the blocks.';
comment on column check_tensors.part is
    'down projection, linear (another linear map of a block), embedding, head, norm, bias or other. Text.';
comment on column check_tensors.shape is 'As the tensor is stored. Counts.';
comment on column check_tensors.n_entries is 'Its numbers. Count.';
comment on column check_tensors.n_changed is 'Of these, numbers that are not what they were. Count.';
comment on column check_tensors.n_not_finite is 'Numbers that are NaN or infinite now. Count.';
comment on column check_tensors.max_abs is 'Largest absolute difference of a number. Weight units.';
comment on column check_tensors.norm is 'Frobenius norm of the difference D. Weight units.';
comment on column check_tensors.weight_norm is 'Frobenius norm of the tensor before. Weight units.';
comment on column check_tensors.relative_norm is
    'norm over weight_norm; inf where the tensor was 0. Ratio.';
comment on column check_tensors.spectral_norm is
    'Largest singular value of D. Weight units. NULL = no linear weight, too large, or not finite.';
comment on column check_tensors.effective_rank is
    'exp of the entropy of D''s singular values as shares of their sum (Roy & Vetterli 2007). Dimensions. NULL likewise.';
comment on column check_tensors.first_share is
    'Share of norm^2 in D''s first singular direction; from 0.99 on D counts as of rank one. Fraction 0-1. NULL likewise.';
comment on column check_tensors.text_change is
    'sqrt(tr(D C DT) / tr(W C WT)): how much the map''s output changes on text, in units of itself. Ratio, no unit. NULL = not a linear map of a block, or not asked for.';
comment on column check_tensors.n_tokens is
    'Tokens that C, the second moment of the map''s inputs, was summed over. Count. NULL as text_change.';
comment on column check_tensors.tokens_per_input is
    'The same for each dimension of C. Ratio, no unit. NULL likewise.';

create table check_scores (
    check_id varchar not null,
    request_id varchar not null,
    side varchar not null,
    subject varchar not null,
    target_new varchar not null,
    efficacy double not null,
    generalization double,
    locality double,
    efficacy_score double,
    paraphrase_score double,
    neighborhood_score double,
    target_new_nll double not null
);
comment on table check_scores is 'What the unedited and the edited model of a check answer to requests, as table measurements scores single edits; no text stands before the prompts.';
comment on column check_scores.check_id is 'Check: checks.check_id. Key with request_id and side.';
comment on column check_scores.request_id is
    'Edit request: requests.request_id, a digest of its content.';
comment on column check_scores.side is 'before (the unedited model) or after (the edited one). Text.';
comment on column check_scores.subject is 'The request''s subject. Text.';
comment on column check_scores.target_new is 'Its target. Text.';
comment on column check_scores.efficacy is
    'Target tokens that the bare prompt predicts. Fraction 0-1.';
comment on column check_scores.generalization is
    'Target tokens that paraphrases predict. Fraction 0-1. NULL = no paraphrase.';
comment on column check_scores.locality is
    'Tokens of neighbourhood answers that are those of the unedited model. Fraction 0-1. NULL = no such prompt.';
comment on column check_scores.efficacy_score is
    'Whether the new target is likelier than the true one. 0 or 1. NULL = no true target.';
comment on column check_scores.paraphrase_score is
    'Share of paraphrases for which it is. Fraction 0-1. NULL = no paraphrase or true target.';
comment on column check_scores.neighborhood_score is
    'Share of neighbourhood prompts for which the true target is likelier. Fraction 0-1. NULL = no such prompt.';
comment on column check_scores.target_new_nll is
    'Mean -log p of the new target''s tokens behind the bare prompt. Nats.';
