-- Which studies are recorded, and how many edits does each have?
select
    studies.study_id,
    studies.name,
    count(study_edits.edit_id) as n_edits
from studies
left join study_edits using (study_id)
group by all
order by studies.name, studies.study_id
