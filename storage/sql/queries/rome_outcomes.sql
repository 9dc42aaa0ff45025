-- What became of ROME's edits of one model in one study, by a rule that is named?
select
    request_id,
    numerator_norm,
    collapsed(
        perplexity_by($measure, perplexity, nll_mean, perplexity_median),
        perplexity_by($measure, perplexity_before, nll_mean_before, perplexity_median_before),
        $threshold,
        $ratio
    ) as is_collapsed
from edit_outcomes
where study_id = $study_id
    and model_id = $model_id
    and layer = $layer
    and method = 'rome'
order by request_id
