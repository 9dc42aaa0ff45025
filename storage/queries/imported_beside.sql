-- What do imported runs of others score, beside this study by the same measures?
select
    origin,
    run,
    model,
    method,
    count(*) as n_edits,
    avg(efficacy) as efficacy,
    avg(generalization) as generalization,
    avg(locality) as locality,
    avg(efficacy_score) as efficacy_score,
    avg(paraphrase_score) as paraphrase_score,
    avg(neighborhood_score) as neighborhood_score
from all_edits
where exists (from imported_runs)
    and (origin <> 'here' or run = (select name from studies where study_id = $study_id))
group by origin, run, model, method
order by origin = 'here' desc, run, model, method
