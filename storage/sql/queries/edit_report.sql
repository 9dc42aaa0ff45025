-- What was foreseen of a study's only edit, what was decided, and what did the edit do?
select
    study,
    study_id,
    model,
    layer,
    [layer] as layers,
    method,
    subject,
    prompt,
    target_new,
    verdict,
    text_change_bound,
    at_risk_at,
    collapse_at,
    calibration_id,
    policy,
    decision,
    reason,
    edit_id,
    made_method,
    made_prompt,
    perplexity_before,
    perplexity,
    perplexity_ratio,
    efficacy,
    efficacy_prefix_mean,
    (select any_value(text_change) from edits where edits.edit_id = guard_outcomes.edit_id)
        as text_change
from guard_outcomes
where study_id = $study_id
union all by name
select
    outcomes.study,
    outcomes.study_id,
    outcomes.model,
    outcomes.layer,
    coalesce(settings.layers, [outcomes.layer]) as layers,
    outcomes.method,
    outcomes.subject,
    outcomes.prompt,
    outcomes.target_new,
    if(
        settings.settings_id is null,
        forecast_verdict(
            forecasts.text_change_bound,
            forecasts.tokens_per_d_key,
            thresholds.at_risk_at,
            thresholds.collapse_at
        ),
        'not known'
    ) as verdict,
    forecasts.text_change_bound,
    thresholds.at_risk_at,
    thresholds.collapse_at,
    thresholds.calibration_id,
    null as policy,
    'made' as decision,
    if(
        settings.settings_id is null,
        'No guard was asked for. Made as asked.',
        'The forecast knows rank-one methods only. Made as asked.'
    ) as reason,
    outcomes.edit_id,
    outcomes.method as made_method,
    outcomes.prompt as made_prompt,
    outcomes.perplexity_before,
    outcomes.perplexity,
    outcomes.perplexity_ratio,
    outcomes.efficacy,
    outcomes.efficacy_prefix_mean,
    outcomes.text_change
from edit_outcomes as outcomes
left join editor_settings as settings using (settings_id)
left join forecasts on forecasts.edit_id = outcomes.edit_id
left join forecast_thresholds as thresholds on thresholds.model_id = forecasts.model_id
where outcomes.study_id = $study_id
    and (
        settings.settings_id is not null
        or (
            thresholds.model_id is not null
            and not exists (from guard_decisions where study_id = $study_id)
        )
    )
