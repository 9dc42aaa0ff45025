-- Which studies are recorded, the newest first, and how many edits does each have?
select
    studies.study_id,
    studies.name,
    count(study_edits.edit_id) as n_edits
from studies
left join study_edits using (study_id)
group by studies.study_id, studies.name, studies.kind, studies.last_run_at, studies.rowid
-- Single edits and re-evaluations after studies; of those of one time, publications add the newest last.
order by studies.kind = 'study' desc, studies.last_run_at desc nulls last, studies.rowid desc
