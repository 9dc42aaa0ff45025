-- Which edits damage their model most, and what do such models write?
with worst as (
    select
        model,
        method,
        subject,
        prompt,
        target_new,
        perplexity_before,
        perplexity,
        perplexity_ratio,
        abs(denominator) as abs_denominator,
        record_index,
        edit_id
    from edit_outcomes
    where study_id = $study_id and perplexity_ratio is not null
    order by perplexity_ratio desc, model, method, record_index
    limit 10
),
written as (
    select edit_id, text_before, text_after
    from continuations
    qualify row_number() over (partition by edit_id order by n_new_tokens desc) = 1
)
select worst.* exclude (record_index, edit_id), written.text_before, written.text_after
from worst
left join written using (edit_id)
order by worst.perplexity_ratio desc, worst.model, worst.method, worst.record_index
