-- How do the scores of a study's edited models go with perplexity and with the change on text?
select
    model,
    task,
    metric,
    filter,
    surrogate,
    n_edits,
    spearman,
    spearman_low,
    spearman_high,
    n_shot,
    sample_limit
from downstream_correlation(measure := $measure)
where
    study_id = $study_id
    and harness_version = $harness_version
    and sample_limit is not distinct from $sample_limit
    and list_contains($tasks, coalesce(task_digest, task))
