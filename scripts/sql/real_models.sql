-- Collapses of real LLMs, a line a model and layer: by ROME where they come, by C-ROME all.
with edits as (
    select
        edits.study_id,
        edits.model,
        edits.method,
        edits.layer,
        models.source,
        models.start_token,
        count(*) as n,
        count(*) filter (where edits.collapsed) as n_collapsed,
        count(*) filter (where edits.perplexity_ratio > 2) as doubled,
        max(edits.perplexity_ratio) as worst
    from edit_outcomes as edits
    inner join models on models.model_id = edits.model_id
    where edits.study in ('real', 'real_layers', 'gemma', 'gemma_layers')
    group by all
)

select
    rome.model,
    rome.layer,
    collapse.first_token,
    collapse.several,
    collapse.inside,
    rome.doubled,
    rome.worst,
    c_rome.n_collapsed || ' of ' || c_rome.n as c_rome,
    c_rome.worst as c_rome_worst
from edits as rome
inner join edits as c_rome
    on c_rome.study_id = rome.study_id and c_rome.model = rome.model
inner join collapse_by_position as collapse
    on collapse.study_id = rome.study_id and collapse.model = rome.model
where rome.method = 'rome' and c_rome.method = 'c_rome' and collapse.method = 'rome'
order by lower(rome.source) desc, rome.start_token nulls first, rome.layer
