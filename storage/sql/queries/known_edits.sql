-- Which single edits are there, and where do their updates lie? Each once, of the newest study that has it.
select
    outcomes.edit_id,
    outcomes.model_id,
    outcomes.model,
    models.source,
    models.dtype,
    models.family,
    studies.settings as study_settings,
    outcomes.method,
    outcomes.layer,
    edits.update_digest,
    edits.update_row,
    outcomes.request_id,
    outcomes.case_id,
    outcomes.subject,
    outcomes.prompt,
    outcomes.target_new,
    outcomes.study,
    outcomes.study_id,
    outcomes.perplexity_ratio,
    outcomes.collapsed
from edit_outcomes as outcomes
inner join edits on edits.edit_id = outcomes.edit_id
inner join models on models.model_id = outcomes.model_id
inner join studies on studies.study_id = outcomes.study_id
where
    ($edit is null or starts_with(outcomes.edit_id, $edit))
    and ($study is null or outcomes.study = $study or starts_with(outcomes.study_id, $study))
    and ($model is null or outcomes.model = $model or starts_with(outcomes.model_id, $model))
    and ($method is null or outcomes.method = $method)
    and ($subject is null or outcomes.subject = $subject)
    and ($case is null or outcomes.case_id = $case)
qualify row_number() over (
    partition by outcomes.edit_id order by studies.last_run_at desc nulls last, studies.study_id
) = 1
order by outcomes.study, outcomes.model, outcomes.method, outcomes.record_index, outcomes.edit_id
