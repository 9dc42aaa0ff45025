-- How often does each method collapse each model, wherever the subject stands?
select
    model,
    method,
    n_collapsed,
    n_edits,
    share,
    wilson_low,
    wilson_high,
    max_perplexity_ratio,
    n_by_mean,
    n_by_nll,
    n_subjects
from collapse_by_method(
    threshold := $threshold, ratio := $ratio, measure := $measure, kinds := null
)
where study_id = $study_id
order by model_order($study_id, model), model, method_order(method), method
