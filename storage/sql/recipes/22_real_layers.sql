-- At which layers? ROME's edits of real LLMs, by layer.
-- `real` and `gemma` edit at the layer chosen by depth, `real_layers` and `gemma_layers` some of the requests further up.
select
    models.source,
    models.start_token,
    edits.layer,
    edits.subject_position,
    count(*) as n,
    round(median(edits.rho), 3) as rho,
    count(*) filter (where edits.collapsed) as collapsed,
    count(*) filter (where edits.perplexity_ratio > 2) as doubled,
    round(max(edits.perplexity_ratio), 1) as worst
from edit_outcomes as edits
inner join models on models.model_id = edits.model_id
where edits.study in ('real', 'real_layers', 'gemma', 'gemma_layers') and edits.method = 'rome'
group by all
order by source desc, start_token nulls first, layer, min(position_order(edits.subject_position))
