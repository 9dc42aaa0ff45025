-- How long did jobs of each kind take of one model on one machine, on the device that it used last?
-- Edits and measurements count where the study that asked for them has as many methods, for v* is
-- worked out once for all of them; measurements where they are made on the same texts.
with asked as (
    select
        study_id,
        evaluation_id,
        json_array_length(settings, '$.methods') as n_methods
    from studies
),
jobs as (
    select provenance.kind, device, n_items, duration_s, started_at
    from provenance
    left join asked using (study_id)
    where model_id = $model_id
        and machine = $machine
        and (provenance.kind not in ('edits', 'evaluation') or n_methods = $n_methods)
        and (provenance.kind not in ('unedited', 'evaluation') or evaluation_id = $evaluation_id)
)
select
    kind,
    count(*) as n_jobs,
    sum(n_items)::bigint as n_items,
    sum(duration_s) as seconds,
    max(device) as device
from jobs
where device = 'none' or device = (select arg_max(device, started_at) from jobs where device != 'none')
group by kind
order by kind
