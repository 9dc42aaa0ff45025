-- How far may text change before perplexity grows? Every checkpoint of every measured sequence, by model.
with measured as (
    select distinct model, sequence_id, n_edits, perplexity_ratio, text_change
    from sequence_outcomes
)
select
    model,
    count(*) as n_checkpoints,
    count(*) filter (where text_change < 1) as n_below,
    max(perplexity_ratio) filter (where text_change < 1) as largest_below,
    count(*) filter (where text_change < 1 and not coalesce(perplexity_ratio < 2, false)) as n_doubled_below,
    min(text_change) filter (where perplexity_ratio >= 2) as doubled_from,
    min(text_change) filter (where perplexity_ratio >= 3) as tripled_from,
    min(text_change) filter (where perplexity_ratio >= 10) as tenfold_from
from measured
group by model
order by model = 'smollm2-135m' desc, model
