-- What was observed in one study's root-cause study, by a rule of collapse that is named?
select *
from anatomy
where study_id = $study_id
    and collapse_threshold = coalesce($threshold, 'inf'::double)
    and collapse_ratio = coalesce($ratio, 'inf'::double)
    and coalesce(collapse_measure, 'mean') = $measure
order by model, layer, grouping desc, observation_order
