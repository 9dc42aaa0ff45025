-- When, where and with what was a study computed? Work that other studies had done before is not in it.
select
    min(started_at) as first_started_at,
    max(started_at) as last_started_at,
    count(*) filter (where kind not in ('study', 'single edit', 'reevaluation')) as n_units,
    sum(duration_s) as work_s,
    string_agg(distinct machine, ', ' order by machine) as machines,
    string_agg(distinct device, ', ' order by device) filter (where device <> 'none') as devices,
    string_agg(distinct editcollapse_version, ', ' order by editcollapse_version) as editcollapse,
    string_agg(distinct torch_version, ', ' order by torch_version) as torch,
    string_agg(distinct transformers_version, ', ' order by transformers_version) as transformers,
    string_agg(distinct python_version, ', ' order by python_version) as python,
    string_agg(distinct git_commit, ', ' order by git_commit) as commits
from provenance
where study_id = $study_id
having count(*) > 0
