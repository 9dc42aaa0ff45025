-- How often does each method collapse each model, wherever the subject stands?
select
    model,
    method,
    sum(n_collapsed)::bigint as n_collapsed,
    sum(n_edits)::bigint as n_edits,
    sum(n_collapsed) / sum(n_edits)::double as share,
    wilson_low(sum(n_collapsed), sum(n_edits)) as wilson_low,
    wilson_high(sum(n_collapsed), sum(n_edits)) as wilson_high,
    max(max_perplexity_ratio) as max_perplexity_ratio
from collapse_incidence(threshold := $threshold, ratio := $ratio, kinds := null)
where study_id = $study_id
group by all
order by model, method
