-- What did each edit do to its model? Above 4,000 edits a sample: of those that collapse up to 1,000,
-- of the others up to 3,000, from each model, method and place in proportion and at least one.
with measured as (
    select
        edit_id,
        model,
        method,
        subject_position,
        collapsed(
            perplexity_by($measure, perplexity, nll_mean, perplexity_median),
            perplexity_by($measure, perplexity_before, nll_mean_before, perplexity_median_before),
            $threshold,
            $ratio
        ) as is_collapsed,
        md5_number_lower(edit_id) as draw
    from edit_outcomes
    where study_id = $study_id and perplexity is not null
),
totals as (
    select count(*) as n_measured, count(*) filter (where is_collapsed) as n_collapsed
    from measured
),
placed as (
    select
        edit_id,
        is_collapsed,
        draw,
        (row_number() over (alike order by draw) - 1) / (count(*) over alike)::double as place
    from measured
    window alike as (partition by model, method, subject_position, is_collapsed)
),
turns as (
    select
        edit_id,
        is_collapsed,
        row_number() over (partition by is_collapsed order by place, draw) as turn
    from placed
),
drawn as (
    select turns.edit_id, turns.is_collapsed, totals.*
    from turns
    cross join totals
    where n_measured <= 4000 or turn <= if(is_collapsed, 1000, 3000)
)
select
    model,
    method,
    subject_position,
    edit_id,
    left(subject, 80) as subject,
    left(target_new, 80) as target_new,
    abs(denominator) as abs_denominator,
    perplexity_by($measure, perplexity, nll_mean, perplexity_median) as perplexity,
    perplexity_by(
        $measure, perplexity_before, nll_mean_before, perplexity_median_before
    ) as perplexity_before,
    perplexity_by($measure, edit_outcomes.perplexity, nll_mean, perplexity_median)
    / perplexity_by(
        $measure, edit_outcomes.perplexity_before, nll_mean_before, perplexity_median_before
    ) as perplexity_ratio,
    is_collapsed,
    n_measured,
    n_collapsed
from edit_outcomes
inner join drawn using (edit_id)
where study_id = $study_id
order by model_order($study_id, model), model, method_order(method), method, subject_position, edit_id
