-- Which edits of one model were foreseen, made and measured, and which of them collapsed it?
select distinct on (outcomes.edit_id, outcomes.evaluation_id)
    outcomes.edit_id,
    outcomes.evaluation_id,
    outcomes.text_change_bound as bound,
    main.collapsed(
        main.perplexity_by(
            $measure, outcomes.perplexity, outcomes.nll_mean, outcomes.perplexity_median
        ),
        main.perplexity_by(
            $measure,
            outcomes.perplexity_before,
            outcomes.nll_mean_before,
            outcomes.perplexity_median_before
        ),
        $threshold,
        $ratio
    ) as is_collapsed,
    coalesce(requests.subject, outcomes.request_id) as subject
from main.forecast_outcomes as outcomes
left join main.requests on requests.request_id = outcomes.request_id
where outcomes.model_id = $model_id and main.forecast_supported(outcomes.tokens_per_d_key)
order by outcomes.edit_id, outcomes.evaluation_id, requests.dataset_id, requests.record_index
