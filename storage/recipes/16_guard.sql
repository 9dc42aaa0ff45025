-- What have guards done, and did an edit that was made collapse its model?
-- The demo study has no guard: every edit is made, and some collapse. `studies/guarded.toml` has one;
-- view `guard_outcomes` has the reason of each of its decisions.
with decided as (
    select study_id, count(*) as n, histogram(decision) as decisions
    from guard_decisions
    group by study_id
)
select
    studies.name as study,
    coalesce(decided.n, 0) as guarded,
    coalesce(decisions['refused'], 0) as refused,
    coalesce(decisions['switched'], 0) as switched,
    coalesce(decisions['prefixed'], 0) as prefixed,
    coalesce(sum(n_edits), 0)::bigint as edits_made,
    coalesce(sum(n_collapsed), 0)::bigint as collapsed
from studies
left join decided on decided.study_id = studies.study_id
left join collapse_incidence as incidence on incidence.study_id = studies.study_id
group by studies.study_id, studies.name, decided.n, decided.decisions
order by studies.name, studies.study_id
