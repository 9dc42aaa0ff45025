-- How the sequences of each editor end on each model: collapses, edits until them, success and text change.
with steps as (
    select study_sequences.*, sequences.edits_per_step, last.text_change
    from study_sequences
    inner join sequences using (sequence_id)
    inner join sequence_steps as last using (sequence_id)
    where last.n_edits <= study_sequences.n_edits
    qualify last.step = max(last.step) over (partition by study_id, sequence_id)
),
scored as (
    -- Each sequence's own last checkpoint, and of it the edits that had been asked for.
    select
        sequence_id,
        avg(efficacy) as efficacy,
        avg(generalization) as generalization,
        avg(locality) as locality
    from (
        from sequence_scores
        where moment = 'final' and edited_at <= step
        qualify step = max(step) over (partition by sequence_id)
    )
    group by sequence_id
),
measured as (
    select study_id, sequence_id, arg_max(perplexity_ratio, n_edits) as perplexity_ratio
    from sequence_outcomes
    group by all
),
refused as (
    select sequence_id, count(*) filter (where decision not in ('applied', 'unusable')) as n_refused
    from sequence_steps
    group by sequence_id
),
ends as (
    select
        steps.study_id,
        steps.model,
        steps.editor,
        any_value(steps.edits_per_step) as edits_per_step,
        median(steps.text_change) as text_change,
        median(measured.perplexity_ratio) as perplexity_ratio,
        median(refused.n_refused) as n_refused,
        avg(scored.efficacy) as efficacy,
        avg(scored.generalization) as generalization,
        avg(scored.locality) as locality
    from steps
    left join scored using (sequence_id)
    left join refused using (sequence_id)
    left join measured using (study_id, sequence_id)
    group by all
)
select
    found.*,
    ends.* exclude (study_id, model, editor),
    tripled.n_collapsed as n_tripled,
    tripled.median as median_tripled,
    tripled.earliest as earliest_tripled,
    tripled.latest as latest_tripled
from collapse_step_by_editor as found
inner join ends using (study_id, model, editor)
inner join collapse_step_by_editor(threshold := null, ratio := 3) as tripled
    using (study_id, model, editor)
order by
    found.study,
    model_order(found.study_id, found.model),
    found.model,
    method_order(found.method),
    ends.edits_per_step,
    found.editor
