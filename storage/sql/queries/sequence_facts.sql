-- What does the card of an exported sequence say: settings, and what was measured after a step?
select
    sequences.editor as method,
    sequences.layers,
    studies.name as study,
    evaluations.text_set,
    base.perplexity as perplexity_before,
    checkpoints.perplexity,
    outcomes.collapsed,
    scores.efficacy,
    scores.generalization,
    scores.locality,
    steps.text_change,
    steps.relative_drift as relative_update_norm,
    sequences.order_seed,
    sequences.edits_per_step,
    sequences.restraint,
    sequences.guard_policy,
    sequences.guard_bound,
    value_settings.steps,
    value_settings.learning_rate,
    value_settings.weight_decay,
    value_settings.kl_factor,
    value_settings.clamp_factor,
    value_settings.stop_loss,
    editor_settings.settings as editor_settings,
    coalesce(editor_settings.source, value_settings.source) as settings_source
from sequences
inner join studies on studies.study_id = $study_id
left join evaluations on evaluations.evaluation_id = sequences.evaluation_id
left join base_perplexities as base
    on base.model_id = sequences.model_id and base.evaluation_id = sequences.evaluation_id
left join sequence_checkpoints as checkpoints
    on checkpoints.sequence_id = sequences.sequence_id and checkpoints.step = $step
left join sequence_steps as steps
    on steps.sequence_id = sequences.sequence_id and steps.step = $step
left join sequence_outcomes as outcomes
    on outcomes.sequence_id = sequences.sequence_id
    and outcomes.step = $step
    and outcomes.study_id = studies.study_id
left join value_settings on value_settings.settings_id = sequences.settings_id
left join editor_settings on editor_settings.settings_id = sequences.settings_id
left join (
    select
        sequence_id,
        avg(efficacy) as efficacy,
        avg(generalization) as generalization,
        avg(locality) as locality
    from sequence_scores
    where step = $step and moment = 'final'
    group by sequence_id
) as scores on scores.sequence_id = sequences.sequence_id
where sequences.sequence_id = $sequence_id
limit 1
