-- How do others' runs compare with ours?
-- `all_edits` has the edits of studies here and of every imported run; this folder has no import. What a
-- source does not say is NULL: kmeng01's files have CounterFact's scores, EasyEdit's have efficacy.
select
    origin,
    run,
    model,
    method,
    count(*) as edits,
    100 * avg(efficacy_score) as es,
    100 * avg(paraphrase_score) as ps,
    100 * avg(neighborhood_score) as ns,
    avg(efficacy) as efficacy
from all_edits
group by all
order by all
