-- What did each study's guard decide, and what became of the edits that were made?
create view guard_outcomes as
with asked_requests as (
    -- A file may hold the same request twice; a decision then has one row, the first record's.
    select distinct on (dataset_id, request_id) *
    from main.requests
    order by dataset_id, request_id, record_index
)
select
    studies.name as study,
    decisions.study_id,
    study_models.name as model,
    decisions.model_id,
    decisions.layer,
    decisions.method,
    decisions.request_id,
    asked_requests.record_index,
    asked_requests.case_id,
    asked_requests.subject,
    asked_requests.prompt,
    asked_requests.target_new,
    positions.subject_position,
    positions.is_first_token,
    decisions.policy,
    decisions.acts_at,
    decisions.verdict,
    decisions.text_change_bound,
    decisions.at_risk_at,
    decisions.collapse_at,
    decisions.calibration_id,
    decisions.decision,
    decisions.edit_id,
    decisions.made_method,
    outcomes.prompt as made_prompt,
    decisions.made_bound,
    outcomes.perplexity,
    outcomes.perplexity_before,
    outcomes.perplexity_ratio,
    outcomes.efficacy,
    outcomes.efficacy_prefix_mean,
    decisions.reason
from main.guard_decisions as decisions
left join main.studies on studies.study_id = decisions.study_id
left join main.study_models
    on study_models.study_id = decisions.study_id
    and study_models.model_id = decisions.model_id
    and study_models.layer = decisions.layer
left join asked_requests
    on asked_requests.dataset_id = studies.dataset_id
    and asked_requests.request_id = decisions.request_id
left join main.positions
    on positions.model_id = decisions.model_id
    and positions.request_id = decisions.request_id
left join main.edit_outcomes as outcomes
    on outcomes.study_id = decisions.study_id and outcomes.edit_id = decisions.edit_id
order by study, decisions.study_id, model, asked_requests.record_index, decisions.method;

comment on view guard_outcomes is
    'Every edit that a study with a guard asked for: what was decided and why, and what the edit that was made did. One row an edit that was asked for.';
comment on column guard_outcomes.study is 'Name of the study. Text.';
comment on column guard_outcomes.study_id is 'Study: studies.study_id.';
comment on column guard_outcomes.model is 'Name of the model in the study. Text.';
comment on column guard_outcomes.model_id is 'Model: models.model_id.';
comment on column guard_outcomes.layer is 'Edited block. Index from 0.';
comment on column guard_outcomes.method is 'Method that was asked for: edits.method. Text.';
comment on column guard_outcomes.request_id is
    'Request that was asked for: requests.request_id.';
comment on column guard_outcomes.record_index is
    'Place of the request in its file, the first where it stands there twice. Index from 0.';
comment on column guard_outcomes.case_id is
    'The dataset''s own name of the record. Text. NULL = it gives none.';
comment on column guard_outcomes.prompt is
    'Rewrite prompt that was asked for, with {} where the subject stands. Text.';
comment on column guard_outcomes.text_change_bound is
    'forecasts.text_change_bound of the edit as asked. Ratio, no unit; inf where the denominator is 0.';
comment on column guard_outcomes.at_risk_at is
    'text_change_bound from which on an edit is at risk. Ratio, no unit.';
comment on column guard_outcomes.collapse_at is
    'text_change_bound from which on an edit is likely to collapse. Ratio, no unit.';
comment on column guard_outcomes.calibration_id is
    'Where both thresholds come from: forecast_calibrations.calibration_id, default, or study file. Text.';
comment on column guard_outcomes.verdict is
    'Verdict on the edit as asked: safe, at risk, will collapse (likely to), or not known where C has too few tokens. Text.';
comment on column guard_outcomes.edit_id is
    'Edit that was made: edits.edit_id. NULL = refused.';
comment on column guard_outcomes.made_prompt is
    'Its rewrite prompt, with {} where the subject stands. Text. NULL = refused, or not made yet.';
comment on column guard_outcomes.perplexity is
    'Perplexity of the model with the edit that was made. No unit. NULL = refused, or not measured yet.';
comment on column guard_outcomes.perplexity_before is
    'Perplexity of the unedited model on the same texts. No unit. NULL as perplexity.';
comment on column guard_outcomes.perplexity_ratio is
    'perplexity / perplexity_before. Ratio, no unit; inf and nan are kept. NULL as perplexity.';
comment on column guard_outcomes.efficacy is
    'efficacy of the edit that was made, asked with its own prompt. Fraction 0-1. NULL as perplexity.';
comment on column guard_outcomes.efficacy_prefix_mean is
    'efficacy_prefix_mean of the edit that was made: with the context templates'' texts before its prompt. Fraction 0-1. NULL as perplexity.';
comment on column guard_outcomes.policy is
    'What the guard was to do: refuse, switch (to another method) or prefix (a text before the prompt). Text.';
comment on column guard_outcomes.acts_at is
    'Verdict from which on it acts: at risk or will collapse (likely to). Text.';
comment on column guard_outcomes.decision is
    'made (as asked), refused, switched or prefixed. Text.';
comment on column guard_outcomes.made_method is
    'Method of the edit that was made: edits.method. Text. NULL = refused.';
comment on column guard_outcomes.made_bound is
    'text_change_bound of the edit that was made. Ratio, no unit. NULL = refused.';
comment on column guard_outcomes.reason is 'Why. One sentence or two.';
