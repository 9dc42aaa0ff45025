-- Which sequences of edits are there? Each once, of the newest study that has it.
select
    sequences.sequence_id,
    sequences.model_id,
    study_sequences.model,
    models.source,
    models.dtype,
    models.family,
    studies.settings as study_settings,
    sequences.editor,
    sequences.layers,
    sequences.order_seed,
    sequences.edits_per_step,
    sequences.restraint,
    studies.name as study,
    studies.study_id,
    (
        select max(sequence_steps.n_edits)
        from sequence_steps
        where sequence_steps.sequence_id = sequences.sequence_id
    ) as n_edits
from sequences
inner join study_sequences on study_sequences.sequence_id = sequences.sequence_id
inner join studies on studies.study_id = study_sequences.study_id
inner join models on models.model_id = sequences.model_id
where
    ($sequence is null or starts_with(sequences.sequence_id, $sequence))
    and ($study is null or studies.name = $study or starts_with(studies.study_id, $study))
    and (
        $model is null
        or study_sequences.model = $model
        or starts_with(sequences.model_id, $model)
    )
    and ($method is null or sequences.editor = $method)
qualify row_number() over (
    partition by sequences.sequence_id order by studies.last_run_at desc nulls last, studies.study_id
) = 1
order by studies.name, study_sequences.model, sequences.editor, sequences.order_seed,
    sequences.sequence_id
