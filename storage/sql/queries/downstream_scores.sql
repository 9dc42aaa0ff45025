-- What did the tasks that were asked of a study's models, or of exported ones, score? By a rule that is named.
select
    model,
    kind,
    method,
    subject,
    task,
    metric,
    filter,
    score,
    score_before,
    score_stderr,
    perplexity_ratio,
    collapsed,
    text_change,
    n_samples,
    n_without_answer,
    label,
    edit_id,
    sequence_id,
    step,
    model_id,
    score_set_id
from downstream_outcomes(threshold := $threshold, ratio := $ratio, measure := $measure)
where (study_id = $study_id or kind = 'exported') and list_contains($score_sets, score_set_id)
