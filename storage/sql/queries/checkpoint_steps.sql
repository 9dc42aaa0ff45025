-- After which steps was a sequence of edits measured?
select step from sequence_checkpoints where sequence_id = $sequence_id order by step
