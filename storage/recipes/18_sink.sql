-- Where is the sink? The residual stream and the attention on the first positions, by block.
-- `uniform` is what the attention were if every token looked at all tokens alike.
select
    model_source,
    layer,
    position,
    residual_norm,
    attention,
    uniform_attention as uniform,
    n_texts
from position_profiles
where position in (0, 1, 8)
    and layer in (1, 3)
    and model_source in ('gpt2-induced', 'gpt2-control')
order by model_source, layer, position
