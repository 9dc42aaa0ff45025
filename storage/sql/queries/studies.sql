-- Which studies are recorded, the newest first, and how many edits does each have?
select
    studies.study_id,
    studies.name,
    count(study_edits.edit_id) as n_edits
from studies
left join study_edits using (study_id)
group by studies.study_id, studies.name, studies.rowid
-- Publications add rows at the end.
order by studies.rowid desc
