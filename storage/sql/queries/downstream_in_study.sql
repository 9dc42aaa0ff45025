-- What is left of the abilities of a study's edited models, and does perplexity tell? One row a model, task and metric.
with scores as (
    select
        model,
        task,
        metric,
        filter,
        n_shot,
        sample_limit,
        task_digest,
        harness_version,
        max(score_before) as score_before,
        count(*) filter (where kind <> 'unedited' and collapsed) as n_collapsed,
        count(*) filter (where kind <> 'unedited' and not collapsed) as n_others,
        median(score) filter (where kind <> 'unedited' and collapsed) as collapsed_score,
        median(score) filter (where kind <> 'unedited' and not collapsed) as other_score
    from downstream_outcomes(threshold := $threshold, ratio := $ratio, measure := $measure)
    where study_id = $study_id
    group by all
    having n_collapsed + n_others > 0
),
correlations as (
    select *
    from downstream_correlation(measure := $measure)
    where study_id = $study_id
)
select
    scores.*,
    of_perplexity.spearman,
    of_perplexity.spearman_low,
    of_perplexity.spearman_high,
    of_change.spearman as change_spearman,
    of_change.spearman_low as change_spearman_low,
    of_change.spearman_high as change_spearman_high
from scores
left join correlations as of_perplexity
    on of_perplexity.surrogate = 'perplexity_ratio'
    and of_perplexity.model = scores.model
    and of_perplexity.task = scores.task
    and of_perplexity.metric = scores.metric
    and of_perplexity.filter = scores.filter
    and of_perplexity.harness_version = scores.harness_version
    and of_perplexity.n_shot is not distinct from scores.n_shot
    and of_perplexity.sample_limit is not distinct from scores.sample_limit
    and of_perplexity.task_digest is not distinct from scores.task_digest
left join correlations as of_change
    on of_change.surrogate = 'text_change'
    and of_change.model = scores.model
    and of_change.task = scores.task
    and of_change.metric = scores.metric
    and of_change.filter = scores.filter
    and of_change.harness_version = scores.harness_version
    and of_change.n_shot is not distinct from scores.n_shot
    and of_change.sample_limit is not distinct from scores.sample_limit
    and of_change.task_digest is not distinct from scores.task_digest
order by
    model_order($study_id, scores.model), scores.model, scores.task, scores.metric, scores.filter,
    scores.n_shot, scores.sample_limit, scores.harness_version, scores.task_digest
