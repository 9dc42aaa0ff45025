-- Collapses of every study, a line a model and method, with the efficacy of its edits.
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
        max(edits.perplexity_ratio) as largest,
        avg(edits.efficacy) filter (where edits.is_first_token) as bare,
        avg(edits.efficacy_one_prefix) filter (where edits.is_first_token) as prefixed,
        avg(edits.efficacy) filter (where not edits.is_first_token) as others_bare,
        avg(edits.efficacy_one_prefix) filter (where not edits.is_first_token) as others_prefixed
    from edit_outcomes as edits
    inner join models on models.model_id = edits.model_id
    group by all
)

select
    collapse.*,
    edits.* exclude (study_id, model, method)
from collapse_by_position as collapse
inner join edits using (study_id, model, method)
order by
    collapse.study,
    model_order(study_id, model),
    model,
    method_order(method)
