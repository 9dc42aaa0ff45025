-- How many facts each part of a fact set has, by the rule that they count as known by.
select
    known_by,
    count(*) filter (where part = 'tuning') as n_tuning,
    count(*) filter (where part = 'held-out') as n_held_out,
    count(*) filter (where part = 'not known') as n_unknown,
    count(*) filter (where part = 'not needed') as n_left_over,
    count(*) as n_asked
from tuning_facts
where fact_set_id = $fact_set_id
group by known_by
