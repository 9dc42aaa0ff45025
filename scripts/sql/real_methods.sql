-- Every method on real LLMs: collapses by position, and what the edits achieve.
with edits as (
    select
        edits.study_id,
        edits.model,
        edits.method,
        edits.layer,
        models.source,
        models.start_token,
        count(*) filter (where edits.perplexity_ratio > 2) as doubled,
        avg(edits.efficacy) filter (where edits.is_first_token) as bare,
        avg(edits.efficacy_one_prefix) filter (where edits.is_first_token) as prefixed,
        avg(edits.efficacy) filter (where not edits.is_first_token) as others_bare,
        avg(edits.efficacy_one_prefix) filter (where not edits.is_first_token) as others_prefixed
    from edit_outcomes as edits
    inner join models on models.model_id = edits.model_id
    where edits.study in ('real', 'real_layers', 'gemma', 'gemma_layers')
    group by all
)

select
    edits.*,
    collapse.first_token,
    collapse.several,
    collapse.inside,
    collapse.worst
from edits
inner join collapse_by_position as collapse
    on
        collapse.study_id = edits.study_id
        and collapse.model = edits.model
        and collapse.method = edits.method
order by
    lower(edits.source) desc,
    edits.start_token nulls first,
    edits.layer,
    method_order(edits.method)
