-- What did the root-cause study by this rule of collapse observe, and how sure is it?
select
    coalesce(study_models.name, anatomies.model_id) as model,
    anatomies.layer,
    anatomy_findings.grouping,
    anatomy_findings.observation,
    anatomy_findings.value,
    anatomy_findings.low,
    anatomy_findings.high,
    anatomy_findings.n_group,
    anatomy_findings.n_others,
    anatomy_findings.interval,
    anatomy_findings.statement
from (
    from anatomies
    where anatomies.study_id = $study_id
        and anatomies.collapse_threshold = coalesce($threshold, 'inf'::double)
        and anatomies.collapse_ratio = coalesce($ratio, 'inf'::double)
        and coalesce(anatomies.collapse_measure, 'mean') = $measure
    qualify row_number() over (
        partition by model_id, layer
        order by n_requests desc, n_collapsed desc nulls last, anatomy_id
    ) = 1
) as anatomies
inner join anatomy_findings using (anatomy_id)
left join (
    select model_id, min(name) as name
    from study_models
    where study_id = $study_id
    group by model_id
) as study_models using (model_id)
order by model_order($study_id, model), model, layer, grouping desc, observation
