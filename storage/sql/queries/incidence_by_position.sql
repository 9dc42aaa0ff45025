-- And by the position of the subject in the prompt?
select
    model,
    method,
    subject_position,
    n_collapsed,
    n_edits,
    share,
    wilson_low,
    wilson_high,
    max_perplexity_ratio,
    n_by_mean,
    n_by_nll,
    n_subjects
from collapse_incidence(
    threshold := $threshold, ratio := $ratio, measure := $measure, kinds := null
)
where study_id = $study_id
order by
    model_place, model, method_order(method), method, position_order(subject_position),
    subject_position
