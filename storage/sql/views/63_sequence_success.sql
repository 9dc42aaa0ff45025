-- Do edits last: how much of what was written do later edits undo?
create view sequence_success as
with paired as (
    select
        study_sequences.study_id,
        study_sequences.model,
        study_sequences.editor,
        sequences.editor as method,
        steps.n_edits,
        final.sequence_id,
        unnest([
            {'quantity': 'efficacy', 'immediate': immediate.efficacy, 'final': final.efficacy},
            {'quantity': 'efficacy_prefix_mean',
                'immediate': immediate.efficacy_prefix_mean, 'final': final.efficacy_prefix_mean},
            {'quantity': 'generalization',
                'immediate': immediate.generalization, 'final': final.generalization},
            {'quantity': 'locality', 'immediate': immediate.locality, 'final': final.locality},
            {'quantity': 'efficacy_score',
                'immediate': immediate.efficacy_score, 'final': final.efficacy_score},
            {'quantity': 'paraphrase_score',
                'immediate': immediate.paraphrase_score, 'final': final.paraphrase_score},
            {'quantity': 'neighborhood_score',
                'immediate': immediate.neighborhood_score, 'final': final.neighborhood_score}
        ]) as measured
    from main.study_sequences
    inner join main.sequences on sequences.sequence_id = study_sequences.sequence_id
    inner join main.sequence_scores as final
        on final.sequence_id = study_sequences.sequence_id and final.moment = 'final'
    inner join main.sequence_scores as immediate
        on immediate.sequence_id = final.sequence_id
        and immediate.request_id = final.request_id
        and immediate.step = final.edited_at
        and immediate.moment = 'immediate'
    inner join main.sequence_steps as steps
        on steps.sequence_id = final.sequence_id and steps.step = final.step
    where steps.n_edits <= study_sequences.n_edits
),
by_order as (
    -- Edits of one order share a model: orders are what is drawn independently.
    select
        study_id,
        model,
        editor,
        method,
        n_edits,
        measured.quantity as quantity,
        sequence_id,
        count(*) as n_scored,
        avg(measured.immediate) as immediate,
        avg(measured.final) as final,
        avg(measured.immediate - measured.final) as lost
    from paired
    where measured.immediate is not null and measured.final is not null
    group by all
),
summed as (
    select
        study_id,
        model,
        editor,
        min(method) as method,
        n_edits,
        quantity,
        count(*) as n_orders,
        sum(n_scored)::bigint as n_scored,
        avg(immediate) as immediate,
        avg(final) as final,
        avg(lost) as lost,
        main.t_quantile(count(*) - 1) * stddev_samp(lost) / sqrt(count(*)) as reach
    from by_order
    group by study_id, model, editor, n_edits, quantity
)
-- Rounded: the last bits of a mean hang on the order in which threads add.
select
    studies.name as study,
    summed.model,
    summed.editor,
    summed.n_edits,
    summed.quantity,
    round(summed.immediate, 12) as immediate,
    round(summed.final, 12) as final,
    round(summed.lost, 12) as lost,
    round(summed.lost - summed.reach, 12) as lost_low,
    round(summed.lost + summed.reach, 12) as lost_high,
    summed.n_orders,
    summed.n_scored,
    summed.method,
    summed.study_id
from summed
left join main.studies on studies.study_id = summed.study_id
order by
    study, summed.study_id, main.model_order(summed.study_id, summed.model), summed.model,
    main.method_order(summed.method), summed.editor, summed.n_edits, summed.quantity;

comment on view sequence_success is
    'Success of edits right after they were made, and of the same edits at a later checkpoint, by study, model, editor, checkpoint and score: means over each order''s edits, then over the orders.';
comment on column sequence_success.study is 'Name of the study. Text.';
comment on column sequence_success.model is 'Name of the model in the study. Text.';
comment on column sequence_success.editor is 'Name of the editor in the study. Text.';
comment on column sequence_success.n_edits is 'Edits asked for up to the checkpoint. Count.';
comment on column sequence_success.quantity is
    'Score: efficacy, efficacy_prefix_mean, generalization, locality, efficacy_score, paraphrase_score or neighborhood_score, as table sequence_scores has it. Text.';
comment on column sequence_success.immediate is
    'Mean score right after each edit''s own step, of the edits that the checkpoint asked for. Fraction 0-1.';
comment on column sequence_success.final is 'Mean score of the same edits at the checkpoint. Fraction 0-1.';
comment on column sequence_success.lost is
    'immediate - final, edit by edit. Difference of fractions, -1 to 1.';
comment on column sequence_success.lost_low is
    'Lower end of the 95 % interval of lost over the orders (Student''s t). Difference of fractions. NULL = one order.';
comment on column sequence_success.lost_high is
    'Upper end of the same interval. Difference of fractions. NULL = one order.';
comment on column sequence_success.n_orders is 'Orders that reach the checkpoint. Count.';
comment on column sequence_success.n_scored is 'Edits with the score at both moments, of all orders. Count.';
comment on column sequence_success.method is
    'What edits, by its name in the catalog: sequences.editor. Text.';
comment on column sequence_success.study_id is 'Study: studies.study_id.';
