-- Which layer of a sequence of edits moves most?
-- Of each editor's layers at the end, medians over the orders: relative drift of the weights, and the change of the layer's
-- output on text. `kept` are directions of the keys that AlphaEdit's projection leaves free.
with last_steps as (
    select sequence_id, max(step) as step
    from sequence_layers
    group by sequence_id
)
select
    studies.name as study,
    members.model,
    members.editor,
    layers.layer,
    round(median(layers.relative_drift), 4) as relative_drift,
    round(median(layers.relative_spectral_norm), 4) as spectral,
    round(median(layers.text_change), 4) as text_change,
    min(layers.kept_dimensions) as kept,
    count(*) as orders
from study_sequences as members
inner join studies on studies.study_id = members.study_id
inner join sequences on sequences.sequence_id = members.sequence_id
inner join last_steps on last_steps.sequence_id = members.sequence_id
inner join sequence_layers as layers
    on layers.sequence_id = last_steps.sequence_id and layers.step = last_steps.step
group by studies.name, members.model, members.editor, sequences.editor, layers.layer
order by study, members.model, method_order(sequences.editor), members.editor, layers.layer
