-- Which edits damage their model most, and what does it write then?
-- Such as did damage: above a ratio of perplexities; no finite number is above any.
-- Ties are broken as the study breaks them when it chooses whose texts to continue.
with texts as (
    select
        edit_id,
        max_by(text_before, n_new_tokens) as text_before,
        max_by(text_after, n_new_tokens) as text_after
    from main.continuations
    group by edit_id
)
select
    model,
    method,
    subject,
    prompt,
    target_new,
    perplexity_before,
    perplexity,
    perplexity_ratio,
    nll_ratio,
    abs(denominator) as abs_denominator,
    collapsed(
        perplexity_by($measure, perplexity, nll_mean, perplexity_median),
        perplexity_by($measure, perplexity_before, nll_mean_before, perplexity_median_before),
        $threshold,
        $ratio
    ) as is_collapsed,
    texts.text_before,
    texts.text_after
from edit_outcomes
left join texts using (edit_id)
where study_id = $study_id and perplexity_ratio > $damage_ratio
order by perplexity_ratio desc, edit_id
limit 10
