-- What can a collapsed model still do, and does perplexity order edited models as their abilities do?
-- Scores of downstream tasks by lm-evaluation-harness (`editcollapse downstream`): before, and medians of collapsed and other
-- edits; then Spearman's correlation of score and perplexity ratio with its 95 % interval.
with scores as (
    select
        study_id,
        study,
        model,
        task,
        any_value(score_before) as before,
        median(score) filter (where collapsed) as collapsed,
        median(score) filter (where not collapsed) as others
    from downstream_outcomes
    where metric = 'acc' and kind = 'edit'
    group by study_id, study, model, task
)
select
    scores.study,
    scores.model,
    scores.task,
    round(scores.before, 3) as before,
    round(scores.collapsed, 3) as collapsed,
    round(scores.others, 3) as others,
    found.n_edits as edits,
    round(found.spearman, 2) as spearman,
    round(found.spearman_low, 2) as low,
    round(found.spearman_high, 2) as high
from scores
inner join downstream_correlation as found
    on found.study_id = scores.study_id and found.model = scores.model and found.task = scores.task
where found.metric = 'acc' and found.surrogate = 'perplexity_ratio'
order by scores.study, scores.model, scores.task
