-- What did each edited model of a study score in downstream tasks, beside what is left of its perplexity?
select
    model,
    task,
    metric,
    filter,
    n_shot,
    sample_limit,
    task_digest,
    harness_version,
    method,
    coalesce(subject, '') as subject,
    score,
    score_before,
    perplexity_ratio,
    perplexity_before,
    collapsed as is_collapsed
from downstream_outcomes(threshold := $threshold, ratio := $ratio, measure := $measure)
where
    study_id = $study_id
    and kind <> 'unedited'
    and isfinite(score)
    and perplexity_ratio is not null
order by
    model_order($study_id, model), model, task, metric, filter, n_shot, sample_limit,
    harness_version, task_digest, method_order(method), score_set_id
