-- How small are the denominators of the edits that collapse, and those of the others? Only rank-one
-- methods divide by anything.
select
    model,
    method,
    case
        when collapsed(
            perplexity_by($measure, perplexity, nll_mean, perplexity_median),
            perplexity_by($measure, perplexity_before, nll_mean_before, perplexity_median_before),
            $threshold,
            $ratio
        ) then 'collapsed' else 'normal'
    end as outcome,
    count(*) as n_edits,
    min(abs(denominator)) as minimum,
    median(abs(denominator)) as median,
    max(abs(denominator)) as maximum,
    median(relative_update_norm) as median_relative_update_norm
from edit_outcomes
where study_id = $study_id and perplexity is not null and denominator is not null
group by all
order by min(model_place), model, min(method_order(method)), method, outcome
