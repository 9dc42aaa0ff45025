-- What does the card of an exported edit say: request, settings, forecast, and what was measured?
select
    outcomes.method,
    coalesce(editor_settings.layers, [outcomes.layer]) as layers,
    outcomes.subject,
    outcomes.prompt,
    outcomes.target_new,
    outcomes.target_true,
    outcomes.study,
    evaluations.text_set,
    outcomes.perplexity_before,
    outcomes.perplexity,
    outcomes.collapsed,
    outcomes.efficacy,
    outcomes.generalization,
    outcomes.locality,
    outcomes.text_change,
    outcomes.relative_update_norm,
    forecast_verdict(
        forecasts.text_change_bound,
        forecasts.tokens_per_d_key,
        thresholds.at_risk_at,
        thresholds.collapse_at
    ) as verdict,
    forecasts.text_change_bound,
    covariances.kind as covariance,
    covariances.source as covariance_source,
    covariances.n_tokens as covariance_tokens,
    covariances.damping,
    value_settings.steps,
    value_settings.learning_rate,
    value_settings.weight_decay,
    value_settings.kl_factor,
    value_settings.clamp_factor,
    value_settings.stop_loss,
    editor_settings.settings as editor_settings,
    coalesce(editor_settings.source, value_settings.source) as settings_source
from edit_outcomes as outcomes
left join evaluations on evaluations.evaluation_id = outcomes.evaluation_id
left join covariances on covariances.covariance_id = outcomes.covariance_id
left join value_settings on value_settings.settings_id = outcomes.settings_id
left join editor_settings on editor_settings.settings_id = outcomes.settings_id
left join forecasts on forecasts.edit_id = outcomes.edit_id
left join forecast_thresholds as thresholds on thresholds.model_id = forecasts.model_id
where outcomes.edit_id = $edit_id and outcomes.study_id = $study_id
limit 1
