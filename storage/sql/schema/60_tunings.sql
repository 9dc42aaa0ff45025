-- Which layer and v* settings edit a model well: the facts of a tuning, and its trials.

create table tuning_facts (
    fact_set_id varchar not null,
    model_id varchar not null,
    request_id varchar not null,
    part varchar not null,
    place bigint,
    known_by varchar not null,
    is_first_token boolean not null,
    is_greedy boolean not null,
    target_true_nll double not null,
    target_new_nll double not null
);
comment on table tuning_facts is 'Facts that a tuning has asked the unedited model for, and which of them it tunes on, holds out, or leaves out.';
comment on column tuning_facts.fact_set_id is
    'Digest of the model, the facts, how many are wanted and the seed. Key with request_id.';
comment on column tuning_facts.model_id is 'Model: models.model_id.';
comment on column tuning_facts.request_id is
    'Edit request: requests.request_id, a digest of its content.';
comment on column tuning_facts.part is
    'tuning, held-out, not known (by the unedited model), or not needed (known, but there are enough). Text.';
comment on column tuning_facts.place is
    'Place in its part: a rung takes the first so many. Index from 0. NULL = not used.';
comment on column tuning_facts.known_by is
    'Rule by which facts count as known: greedy (is_greedy, and target_true is likelier than target_new) or likelier (the latter alone, where too few are known by the former). Text.';
comment on column tuning_facts.is_first_token is
    'Whether the subject''s last token is the first of the bare prompt. Boolean.';
comment on column tuning_facts.is_greedy is
    'Whether the tokens of target_true are the unedited model''s most likely ones behind the bare prompt. Boolean.';
comment on column tuning_facts.target_true_nll is
    'Mean -log p of target_true''s tokens behind the bare prompt, unedited model. Nats.';
comment on column tuning_facts.target_new_nll is
    'Mean -log p of target_new''s tokens behind the bare prompt, unedited model. Nats.';

create table tuning_trials (
    tuning_id varchar not null,
    study varchar not null,
    model varchar not null,
    model_id varchar not null,
    fact_set_id varchar not null,
    evaluation_id varchar not null,
    covariance_id varchar not null,
    part varchar not null,
    rung bigint not null,
    trial bigint not null,
    method varchar not null,
    layer bigint not null,
    settings_id varchar not null,
    steps bigint not null,
    learning_rate double not null,
    weight_decay double not null,
    kl_factor double not null,
    clamp_factor double not null,
    stop_loss double not null,
    n_facts bigint not null,
    n_first_token bigint not null,
    efficacy double,
    efficacy_prefix_mean double,
    first_token_efficacy double,
    first_token_efficacy_prefix_mean double,
    generalization double,
    locality double,
    clamp_share double not null,
    worst_ratio double not null,
    n_damaged bigint not null,
    n_collapsed bigint not null,
    objective double not null,
    seconds double not null
);
comment on table tuning_trials is 'Layers and v* settings that a tuning has tried, each with its scores on some facts, by successive halving and then beside the best; at the end the best trial and trial 0 on held-out facts.';
comment on column tuning_trials.tuning_id is
    'Digest of the study, the model and what is tried. Key with part, rung, trial and method.';
comment on column tuning_trials.study is 'Name of the tuning. Text.';
comment on column tuning_trials.model is 'What the tuning calls its model. Text.';
comment on column tuning_trials.model_id is 'Model: models.model_id.';
comment on column tuning_trials.fact_set_id is 'Its facts: tuning_facts.fact_set_id.';
comment on column tuning_trials.evaluation_id is
    'What its edits were measured on: evaluations.evaluation_id.';
comment on column tuning_trials.covariance_id is 'Second moment: covariances.covariance_id.';
comment on column tuning_trials.part is
    'Facts that are edited: tuning, or held-out, which no trial was chosen by. Text.';
comment on column tuning_trials.rung is
    'Round of the halving: later ones have fewer trials and more facts; neighbours of the best are in the first and the last. Held-out: the one after the last. Index from 0.';
comment on column tuning_trials.trial is
    'Number of the trial; 0 is the layer and the settings that a study would take. Index from 0.';
comment on column tuning_trials.method is
    'Editing method; c_rome is tuned, and compared with rome on held-out facts. Text.';
comment on column tuning_trials.layer is 'Edited block. Index from 0.';
comment on column tuning_trials.settings_id is
    'Settings of the v* optimisation: value_settings.settings_id.';
comment on column tuning_trials.steps is 'Forward passes at most. Count.';
comment on column tuning_trials.learning_rate is 'Adam''s. No unit.';
comment on column tuning_trials.weight_decay is 'Weight of ||delta|| / ||v0||^2. No unit.';
comment on column tuning_trials.kl_factor is 'Weight of the KL term. No unit.';
comment on column tuning_trials.clamp_factor is
    'Largest ||delta|| in units of ||v0||. Ratio, no unit.';
comment on column tuning_trials.stop_loss is 'An edit stops below this loss. Nats.';
comment on column tuning_trials.n_facts is 'Facts that are edited, one at a time. Count.';
comment on column tuning_trials.n_first_token is
    'Of these, facts whose subject''s last token is the first of the bare prompt. Count.';
comment on column tuning_trials.efficacy is
    'Target tokens that the bare prompt predicts, mean over the facts that are not first-token. Fraction 0-1. NULL = none.';
comment on column tuning_trials.efficacy_prefix_mean is
    'The same behind the context templates'' texts. Fraction 0-1. NULL = no such fact or text.';
comment on column tuning_trials.first_token_efficacy is
    'Target tokens that the bare prompt predicts, mean over first-token facts. Fraction 0-1. NULL = none.';
comment on column tuning_trials.first_token_efficacy_prefix_mean is
    'The same behind the context templates'' texts. Fraction 0-1. NULL = no such fact or text.';
comment on column tuning_trials.generalization is
    'Target tokens that paraphrases predict, mean over facts. Fraction 0-1. NULL = no paraphrase.';
comment on column tuning_trials.locality is
    'Tokens of neighbourhood answers that stay, mean over facts. Fraction 0-1. NULL = no such prompt.';
comment on column tuning_trials.clamp_share is
    'Facts of which delta was cut to clamp_factor * ||v0||. Fraction 0-1.';
comment on column tuning_trials.worst_ratio is
    'Largest perplexity of an edited model over the unedited model''s. Ratio.';
comment on column tuning_trials.n_damaged is
    'Edits that more than double the perplexity. Count.';
comment on column tuning_trials.n_collapsed is
    'Edits that collapse the model by the study''s rule. Count.';
comment on column tuning_trials.objective is
    'Harmonic mean of efficacy, first_token_efficacy_prefix_mean, generalization and locality, those that are measured and each at least 0.01; 0 where an edit is damaged. Fraction 0-1.';
comment on column tuning_trials.seconds is
    'What its edits and their evaluation took where they were computed, all methods of the trial together. Seconds.';
