-- What does each position of a text look like, layer by layer, in the study's models and in encoders?
-- The first 32 positions; where a model was looked at twice, the larger number of texts.
with texts as (
    select model_id, text_set_digest
    from position_profiles
    group by model_id, text_set_digest
    qualify row_number() over (
        partition by model_id order by max(n_texts) desc, text_set_digest
    ) = 1
),
named as (
    select model_id, min(name) as name
    from study_models
    where study_id = $study_id
    group by model_id
)
select
    coalesce(named.name, profiles.model_source) as model,
    profiles.stack,
    profiles.layer,
    profiles.position,
    profiles.n_texts,
    profiles.residual_norm,
    profiles.residual_norm_low,
    profiles.residual_norm_high,
    profiles.key_norm,
    profiles.key_cosine,
    profiles.attention,
    profiles.attention_low,
    profiles.attention_high,
    profiles.uniform_attention
from position_profiles as profiles
inner join texts using (model_id, text_set_digest)
left join named using (model_id)
where profiles.position < 32
    and (named.model_id is not null or (profiles.stack = 'encoder' and exists (
        from position_profiles inner join named using (model_id)
    )))
order by
    profiles.stack, model_order($study_id, model), model, profiles.layer, profiles.position
