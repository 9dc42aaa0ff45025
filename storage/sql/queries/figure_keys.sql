-- Where do keys lie in two dimensions? For each model and layer one root-cause study, that with the
-- most requests; of those requests up to 300, first tokens as many as others.
with named as (
    select
        anatomies.anatomy_id,
        coalesce(study_models.name, anatomies.model_id) as model,
        anatomies.layer,
        anatomies.n_requests,
        anatomies.keys_variance_x,
        anatomies.keys_variance_y,
        anatomies.solved_variance_x,
        anatomies.solved_variance_y
    from anatomies
    left join (
        select model_id, min(name) as name
        from study_models
        where study_id = $study_id
        group by model_id
    ) as study_models using (model_id)
    where anatomies.study_id = $study_id
        and anatomies.collapse_threshold = coalesce($threshold, 'inf'::double)
        and anatomies.collapse_ratio = coalesce($ratio, 'inf'::double)
        and coalesce(anatomies.collapse_measure, 'mean') = $measure
    qualify row_number() over (
        partition by anatomies.model_id, anatomies.layer
        order by n_requests desc, n_collapsed desc nulls last, anatomy_id
    ) = 1
),
drawn as (
    select anatomy_id, request_id
    from (select distinct anatomy_id, request_id, is_first_token from key_points)
    qualify row_number() over (
        partition by anatomy_id, is_first_token order by md5(request_id)
    ) <= 150
)
select
    named.model,
    named.layer,
    named.n_requests,
    named.keys_variance_x,
    named.keys_variance_y,
    named.solved_variance_x,
    named.solved_variance_y,
    key_points.request_id,
    key_points.kind,
    key_points.is_first_token,
    key_points.is_collapsed,
    key_points.pca_x,
    key_points.pca_y,
    key_points.tsne_x,
    key_points.tsne_y
from named
inner join key_points using (anatomy_id)
inner join drawn using (anatomy_id, request_id)
order by
    model_order($study_id, named.model), named.model, named.layer, key_points.kind,
    key_points.request_id
