-- Will it break, and why: what the guard decided, what edited models write, where their keys lie.

create table guard_decisions (
    study_id varchar not null,
    model_id varchar not null,
    layer bigint not null,
    method varchar not null,
    request_id varchar not null,
    policy varchar not null,
    acts_at varchar not null,
    verdict varchar not null,
    text_change_bound double not null,
    at_risk_at double not null,
    collapse_at double not null,
    calibration_id varchar not null,
    decision varchar not null,
    edit_id varchar,
    made_method varchar,
    made_request_id varchar,
    made_dataset_id varchar,
    made_bound double,
    reason varchar not null
);
comment on table guard_decisions is
    'What a study''s guard did with each edit that was asked for: one row each, those that were made as asked included.';
comment on column guard_decisions.study_id is 'Study: studies.study_id.';
comment on column guard_decisions.model_id is 'Model: models.model_id.';
comment on column guard_decisions.layer is 'Edited block. Index from 0.';
comment on column guard_decisions.method is 'Method that was asked for: edits.method. Text.';
comment on column guard_decisions.request_id is 'Request that was asked for: requests.request_id.';
comment on column guard_decisions.policy is
    'What the guard was to do: refuse, switch (to another method) or prefix (a text before the prompt). Text.';
comment on column guard_decisions.acts_at is
    'Verdict from which on it acts: at risk or will collapse (likely to). Text.';
comment on column guard_decisions.verdict is
    'Verdict on the edit as asked: safe, at risk, will collapse (likely to), or not known where C has too few tokens. Text.';
comment on column guard_decisions.text_change_bound is
    'forecasts.text_change_bound of the edit as asked. Ratio, no unit; inf where the denominator is 0.';
comment on column guard_decisions.at_risk_at is
    'text_change_bound from which on an edit is at risk. Ratio, no unit.';
comment on column guard_decisions.collapse_at is
    'text_change_bound from which on an edit is likely to collapse. Ratio, no unit.';
comment on column guard_decisions.calibration_id is
    'Where both thresholds come from: forecast_calibrations.calibration_id, default, or study file. Text.';
comment on column guard_decisions.decision is
    'made (as asked), refused, switched or prefixed. Text.';
comment on column guard_decisions.edit_id is
    'Edit that was made: edits.edit_id. NULL = refused.';
comment on column guard_decisions.made_method is
    'Its method: edits.method. Text. NULL = refused.';
comment on column guard_decisions.made_request_id is
    'Its request: requests.request_id; another than request_id where a text was put before the prompt. NULL = refused.';
comment on column guard_decisions.made_dataset_id is
    'Dataset that its request is a record of: datasets.dataset_id. NULL = refused.';
comment on column guard_decisions.made_bound is
    'Its text_change_bound. Ratio, no unit. NULL = refused.';
comment on column guard_decisions.reason is 'Why. One sentence or two.';

create table continuations (
    edit_id varchar not null,
    n_new_tokens bigint not null,
    prompt varchar not null,
    text_before varchar not null,
    text_after varchar not null
);
comment on table continuations is
    'How a model goes on from the rewrite prompt, unedited and edited, always taking the likeliest token; of each study''s most damaging edits, if they more than double the perplexity.';
comment on column continuations.edit_id is 'Edit: edits.edit_id.';
comment on column continuations.n_new_tokens is 'Tokens that were generated at most. Count.';
comment on column continuations.prompt is 'The rewrite prompt with its subject. Text.';
comment on column continuations.text_before is 'What the unedited model adds to it. Text.';
comment on column continuations.text_after is 'What the edited model adds to it. Text.';

create table anatomies (
    anatomy_id varchar not null,
    study_id varchar not null,
    model_id varchar not null,
    layer bigint not null,
    covariance_id varchar not null,
    template_set_id varchar not null,
    n_requests bigint not null,
    n_first_token bigint not null,
    n_collapsed bigint,
    collapse_threshold double not null,
    collapse_ratio double not null,
    d_key bigint not null,
    vectors_path varchar not null,
    vectors_digest varchar not null,
    keys_variance_x double not null,
    keys_variance_y double not null,
    solved_variance_x double not null,
    solved_variance_y double not null,
    tsne_perplexity double,
    seed bigint not null
);
comment on table anatomies is
    'Root-cause studies of ROME''s collapse, one for each edited layer of a model: which keys were compared.';
comment on column anatomies.anatomy_id is 'Digest of the requests, their outcomes and all settings. Key.';
comment on column anatomies.study_id is 'Study whose edits were looked at: studies.study_id.';
comment on column anatomies.model_id is 'Model: models.model_id.';
comment on column anatomies.layer is 'Edited block. Index from 0.';
comment on column anatomies.covariance_id is 'Second moment: covariances.covariance_id.';
comment on column anatomies.template_set_id is
    'Set of context templates: templates.template_set_id.';
comment on column anatomies.n_requests is 'Requests whose keys were read. Count.';
comment on column anatomies.n_first_token is
    'Of these, requests whose subject''s last token is the prompt''s first token. Count.';
comment on column anatomies.n_collapsed is
    'Of these, requests whose edit by rome collapsed the model. Count. NULL = not measured.';
comment on column anatomies.collapse_threshold is 'Rule of collapse: perplexity above this. No unit.';
comment on column anatomies.collapse_ratio is
    'Rule of collapse: or above so many times the unedited model''s. Ratio, no unit.';
comment on column anatomies.d_key is 'Numbers in a key. Count.';
comment on column anatomies.vectors_path is
    'Parquet file of the vectors, below the results folder: columns request_id, kind, vector. Text.';
comment on column anatomies.vectors_digest is 'Digest of its bytes. Hex digits.';
comment on column anatomies.keys_variance_x is
    'Share of the keys'' variance along pca_x. Fraction 0-1.';
comment on column anatomies.keys_variance_y is
    'Share of the keys'' variance along pca_y. Fraction 0-1.';
comment on column anatomies.solved_variance_x is
    'Share of the variance of the C^-1 kbar along pca_x. Fraction 0-1.';
comment on column anatomies.solved_variance_y is
    'Share of the variance of the C^-1 kbar along pca_y. Fraction 0-1.';
comment on column anatomies.tsne_perplexity is
    't-SNE''s perplexity, its number of neighbours; not of a language model. No unit. NULL = too few vectors for t-SNE.';
comment on column anatomies.seed is 'Seed of the drawn prefixes, of t-SNE and of the intervals. Integer.';

create table key_points (
    anatomy_id varchar not null,
    request_id varchar not null,
    kind varchar not null,
    is_first_token boolean not null,
    is_collapsed boolean,
    norm double not null,
    pca_x double not null,
    pca_y double not null,
    tsne_x double,
    tsne_y double,
    vector_row bigint not null
);
comment on table key_points is
    'Keys in two dimensions. Kinds solved are in a space of their own; all others share one.';
comment on column key_points.anatomy_id is 'Root-cause study: anatomies.anatomy_id.';
comment on column key_points.request_id is 'Edit request: requests.request_id.';
comment on column key_points.kind is
    'bare (k0), prefixed (kbar), solved (C^-1 kbar), one_prefix (key behind one prefix drawn among the context templates) or first_token (key of the bare prompt''s first token, where that is not the subject''s last). Text.';
comment on column key_points.is_first_token is
    'Whether the subject''s last token is the prompt''s first token, a start token aside. Boolean.';
comment on column key_points.is_collapsed is
    'Whether the request''s edit by rome collapsed the model. Boolean. NULL = not measured.';
comment on column key_points.norm is 'Norm of the vector. No unit.';
comment on column key_points.pca_x is 'First principal component. Units of the key.';
comment on column key_points.pca_y is 'Second principal component. Units of the key.';
comment on column key_points.tsne_x is 'First coordinate by t-SNE. No unit. NULL = too few vectors.';
comment on column key_points.tsne_y is 'Second coordinate by t-SNE. No unit. NULL = too few vectors.';
comment on column key_points.vector_row is 'Row of the vector in the file anatomies.vectors_path. Index from 0.';

create table anatomy_findings (
    anatomy_id varchar not null,
    grouping varchar not null,
    observation varchar not null,
    value double not null,
    low double not null,
    high double not null,
    n_group bigint not null,
    n_others bigint not null,
    interval varchar not null,
    statement varchar not null
);
comment on table anatomy_findings is
    'Observations of root-cause studies, each a number with a 95 % interval.';
comment on column anatomy_findings.anatomy_id is 'Root-cause study: anatomies.anatomy_id.';
comment on column anatomy_findings.grouping is
    'What the requests are parted by: first_token (the subject''s last token is the prompt''s first token) or collapsed (edit by rome collapsed the model). Text.';
comment on column anatomy_findings.observation is 'What was compared. Text.';
comment on column anatomy_findings.value is 'The number; statement says what it means. No unit.';
comment on column anatomy_findings.low is 'Lower end of its 95 % interval.';
comment on column anatomy_findings.high is 'Upper end of its 95 % interval.';
comment on column anatomy_findings.n_group is 'Vectors or requests in the group. Count.';
comment on column anatomy_findings.n_others is 'Vectors or requests beside it. Count.';
comment on column anatomy_findings.interval is 'How the interval was made. Text.';
comment on column anatomy_findings.statement is 'The observation in words. One sentence.';

create table position_profiles (
    model_id varchar not null,
    text_set_digest varchar not null,
    stack varchar not null,
    layer bigint not null,
    position bigint not null,
    model_source varchar not null,
    n_texts bigint not null,
    residual_norm double not null,
    residual_norm_low double not null,
    residual_norm_high double not null,
    key_norm double not null,
    key_norm_low double not null,
    key_norm_high double not null,
    key_cosine double not null,
    key_cosine_low double not null,
    key_cosine_high double not null,
    attention double,
    attention_low double,
    attention_high double,
    uniform_attention double
);
comment on table position_profiles is
    'What each position of a text looks like at each layer of an unedited model; position 0 of a decoder shows the attention sink. Means over texts with 95 % intervals of Student''s t.';
comment on column position_profiles.model_id is
    'Model: models.model_id; for an encoder, which is not edited, a digest of its own.';
comment on column position_profiles.text_set_digest is 'Digest of the texts and of how many tokens of each were run.';
comment on column position_profiles.stack is 'decoder (causal attention) or encoder. Text.';
comment on column position_profiles.layer is 'Block. Index from 0.';
comment on column position_profiles.position is 'Place of the token in its text. Index from 0.';
comment on column position_profiles.model_source is 'Where the model came from. Text.';
comment on column position_profiles.n_texts is 'Texts that reach this position. Count.';
comment on column position_profiles.residual_norm is
    'Norm of the residual stream after the block. No unit.';
comment on column position_profiles.residual_norm_low is 'Lower end of its interval.';
comment on column position_profiles.residual_norm_high is 'Upper end of its interval.';
comment on column position_profiles.key_norm is 'Norm of the key, the input of the MLP''s down projection. No unit.';
comment on column position_profiles.key_norm_low is 'Lower end of its interval.';
comment on column position_profiles.key_norm_high is 'Upper end of its interval.';
comment on column position_profiles.key_cosine is
    'Cosine of the key and the mean key of all texts'' other positions at this layer. -1 to 1.';
comment on column position_profiles.key_cosine_low is 'Lower end of its interval.';
comment on column position_profiles.key_cosine_high is 'Upper end of its interval.';
comment on column position_profiles.attention is
    'Weight that later tokens give to this position, mean over heads and tokens. Fraction 0-1. NULL = there is no later token.';
comment on column position_profiles.attention_low is 'Lower end of its interval. NULL as attention.';
comment on column position_profiles.attention_high is 'Upper end of its interval. NULL as attention.';
comment on column position_profiles.uniform_attention is
    'What it were if every token looked at all tokens alike. Fraction 0-1. NULL as attention.';

-- Thresholds do not carry over from one model to another.
alter table forecast_calibrations add column model_id varchar;
comment on column forecast_calibrations.model_id is
    'Model whose edits they were taken from: models.model_id. NULL = of several models, by an earlier version; no verdict uses it.';

-- The measure of the rule of collapse came after the rule's bounds.
alter table forecast_calibrations add column collapse_measure varchar;
comment on column forecast_calibrations.collapse_measure is
    'Rule of collapse: which figure of the text set is its perplexity, mean, nll or median. Text. NULL = mean, by an earlier version.';
alter table anatomies add column collapse_measure varchar;
comment on column anatomies.collapse_measure is
    'Rule of collapse: which figure of the text set is its perplexity, mean, nll or median. Text. NULL = mean, by an earlier version.';
alter table base_measurements add column portability double;
comment on column base_measurements.portability is
    'Portability prompts: share of the expected answer''s tokens that are the argmax, mean over prompts (KnowEdit). Fraction 0-1. NULL = not measured: the request has no portability prompt.';
alter table base_measurements add column n_portability_prompts bigint;
comment on column base_measurements.n_portability_prompts is
    'Portability prompts that were asked. Count. NULL = by an earlier version, which asked none.';
alter table measurements add column portability double;
comment on column measurements.portability is
    'Portability prompts: share of the expected answer''s tokens that are the argmax, mean over prompts (KnowEdit). Fraction 0-1. NULL = not measured: the request has no portability prompt.';
alter table measurements add column n_portability_prompts bigint;
comment on column measurements.n_portability_prompts is
    'Portability prompts that were asked. Count. NULL = by an earlier version, which asked none.';
-- P(collapse), and how thresholds of other subjects do on a subject.
alter table forecast_calibrations add column safe_below double;
alter table forecast_calibrations add column never_safe_from double;
alter table forecast_calibrations add column intercept double;
alter table forecast_calibrations add column slope double;
alter table forecast_calibrations add column intercepts double[];
alter table forecast_calibrations add column slopes double[];
alter table forecast_calibrations add column brier double;
alter table forecast_calibrations add column n_subjects bigint;
alter table forecast_calibrations add column held_out_flagged bigint;
alter table forecast_calibrations add column held_out_caught bigint;
alter table forecast_calibrations add column held_out_brier double;
comment on column forecast_calibrations.safe_below is
    'P(collapse) that no safe edit reaches: at_risk_at is not above the bound that has it. Fraction 0-1. NULL = calibrated by an earlier version.';
comment on column forecast_calibrations.never_safe_from is
    'text_change_bound from which on no edit is safe, whatever P(collapse) is: the largest with the wanted recall, taken half way (geometric mean) to the next smaller one that was measured. Ratio, no unit. NULL = calibrated by an earlier version.';
comment on column forecast_calibrations.intercept is
    'Log odds of a collapse where text_change_bound is 1; logistic in its logarithm, L2 penalty. No unit. NULL = collapses do not become more frequent with the bound, or calibrated by an earlier version.';
comment on column forecast_calibrations.slope is
    'Log odds of a collapse for each factor e of text_change_bound. No unit. NULL = collapses do not become more frequent with the bound, or calibrated by an earlier version.';
comment on column forecast_calibrations.intercepts is
    'intercept of bootstrap samples of subjects, in one order with slopes: the interval of P(collapse). No unit. NULL = collapses do not become more frequent with the bound, or calibrated by an earlier version.';
comment on column forecast_calibrations.slopes is
    'slope of bootstrap samples of subjects, in one order with intercepts. No unit. NULL = collapses do not become more frequent with the bound, or calibrated by an earlier version.';
comment on column forecast_calibrations.brier is
    'Mean squared difference of P(collapse) and outcome, on the edits themselves; 0 is perfect. 0-1. NULL = collapses do not become more frequent with the bound, or calibrated by an earlier version.';
comment on column forecast_calibrations.n_subjects is
    'Subjects of the edits. Count. NULL = calibrated by an earlier version.';
comment on column forecast_calibrations.held_out_flagged is
    'Edits at risk or worse by thresholds of other subjects alone. Count. NULL = without one subject the others have no P(collapse).';
comment on column forecast_calibrations.held_out_caught is
    'Of these, edits that collapsed; n_collapsed - held_out_caught are the false safe. Count. NULL as held_out_flagged.';
comment on column forecast_calibrations.held_out_brier is
    'brier, with P(collapse) of other subjects alone. 0-1. NULL as held_out_flagged.';
