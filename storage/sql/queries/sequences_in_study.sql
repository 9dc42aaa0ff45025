-- How many edits does each editor of a study bear, one after the other, and how do its sequences end?
with members as (
    from study_sequences
    where study_id = $study_id
),
ends as (
    select
        sequence_id,
        arg_max(sequence_steps.text_change, step) as text_change,
        bool_or(decision not in ('applied', 'unusable')) as is_guarded
    from sequence_steps
    inner join members using (sequence_id)
    where sequence_steps.n_edits <= members.n_edits
    group by sequence_id
),
scored as (
    -- Each sequence's own last checkpoint: those that end early count as well.
    select sequence_id, avg(efficacy) as efficacy
    from (
        from sequence_scores
        inner join sequence_steps using (sequence_id, step)
        inner join members using (sequence_id)
        where moment = 'final' and sequence_steps.n_edits <= members.n_edits
        qualify step = max(step) over (partition by sequence_id)
    )
    group by sequence_id
),
rejected as (
    select members.model, members.editor, count(distinct rejections.record_index) as n_unusable
    from members
    inner join sequences using (sequence_id)
    inner join studies on studies.study_id = members.study_id
    inner join rejections
        on rejections.dataset_id = studies.dataset_id
        and rejections.model_id = sequences.model_id
    group by all
),
summed as (
    select
        members.model,
        members.editor,
        max(members.n_edits) as n_edits,
        avg(scored.efficacy) as final_efficacy,
        median(ends.text_change) as text_change,
        count(*) filter (where ends.is_guarded) as n_guarded
    from members
    left join ends using (sequence_id)
    left join scored using (sequence_id)
    group by members.model, members.editor
)
select
    steps.model,
    steps.editor,
    steps.method,
    summed.n_edits,
    steps.n_collapsed,
    steps.n_orders,
    steps.median,
    steps.median_low,
    steps.median_high,
    steps.earliest,
    steps.latest,
    steps.alive,
    steps.lower,
    steps.upper,
    steps.followed_to,
    summed.final_efficacy,
    summed.text_change,
    summed.n_guarded,
    coalesce(rejected.n_unusable, 0) as n_unusable
from collapse_step_by_editor(
    threshold := $threshold, ratio := $ratio, measure := $measure
) as steps
inner join summed on summed.model = steps.model and summed.editor = steps.editor
left join rejected on rejected.model = steps.model and rejected.editor = steps.editor
where steps.study_id = $study_id
order by
    model_order($study_id, steps.model), steps.model, method_order(steps.method), steps.editor
