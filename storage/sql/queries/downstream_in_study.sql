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
    select
        model,
        task,
        metric,
        filter,
        n_shot,
        sample_limit,
        task_digest,
        harness_version,
        max(spearman) filter (where surrogate = 'perplexity_ratio') as spearman,
        max(spearman_low) filter (where surrogate = 'perplexity_ratio') as spearman_low,
        max(spearman_high) filter (where surrogate = 'perplexity_ratio') as spearman_high,
        max(spearman) filter (where surrogate = 'text_change') as change_spearman,
        max(spearman_low) filter (where surrogate = 'text_change') as change_spearman_low,
        max(spearman_high) filter (where surrogate = 'text_change') as change_spearman_high
    from downstream_correlation(measure := $measure)
    where study_id = $study_id
    group by all
)
select
    scores.*,
    spearman,
    spearman_low,
    spearman_high,
    change_spearman,
    change_spearman_low,
    change_spearman_high
from scores
left join correlations
    on correlations.model = scores.model
    and correlations.task = scores.task
    and correlations.metric = scores.metric
    and correlations.filter = scores.filter
    and correlations.harness_version = scores.harness_version
    and correlations.n_shot is not distinct from scores.n_shot
    and correlations.sample_limit is not distinct from scores.sample_limit
    and correlations.task_digest is not distinct from scores.task_digest
order by
    model_order($study_id, scores.model), scores.model, scores.task, scores.metric, scores.filter,
    scores.n_shot, scores.sample_limit, scores.harness_version, scores.task_digest
