-- What do edited models score in downstream tasks: unedited, after a collapse, and after other edits? By accuracy.
with scores as (
    select
        study,
        study_id,
        model,
        task,
        metric,
        max(score_before) as before,
        count(*) filter (where collapsed) as n_collapsed,
        median(score) filter (where collapsed) as collapsed,
        min(score) filter (where collapsed) as collapsed_low,
        max(score) filter (where collapsed) as collapsed_high,
        count(*) filter (where not collapsed) as n_others,
        median(score) filter (where not collapsed) as others,
        min(score) filter (where not collapsed) as others_low,
        max(score) filter (where not collapsed) as others_high
    from downstream_outcomes
    where kind = 'edit' and metric = 'acc' and filter = 'none'
    group by study, study_id, model, task, metric
)
select
    scores.*,
    found.spearman,
    found.spearman_low,
    found.spearman_high
from scores
inner join downstream_correlation as found
    on found.study_id = scores.study_id
    and found.model = scores.model
    and found.task = scores.task
    and found.metric = scores.metric
    and found.surrogate = 'perplexity_ratio'
where list_contains(['demo', 'smollm2'], scores.study) and scores.n_collapsed > 0
order by scores.study, scores.study_id, model_order(scores.study_id, scores.model), scores.task
