-- Which models are edited where, and what is their second moment measured on?
select distinct
    study_models.name as model,
    models.source,
    models.family,
    models.dtype,
    edits.layer,
    edits.layer_source,
    models.n_layers,
    models.n_parameters,
    base_perplexities.perplexity as perplexity_before,
    covariances.kind as covariance,
    covariances.source as covariance_source,
    covariances.n_tokens as covariance_tokens,
    covariances.damping,
    models.model_id,
    edits.covariance_id,
    edits.template_set_id,
    edits.settings_id
from studies
inner join study_models using (study_id)
left join models using (model_id)
left join base_perplexities
    on base_perplexities.model_id = study_models.model_id
    and base_perplexities.evaluation_id = studies.evaluation_id
left join study_edits on study_edits.study_id = studies.study_id
inner join edits
    on edits.edit_id = study_edits.edit_id
    and edits.model_id = study_models.model_id
    and edits.layer = study_models.layer
left join covariances on covariances.covariance_id = edits.covariance_id
where studies.study_id = $study_id
order by model, edits.layer
