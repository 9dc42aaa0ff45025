-- What have others published, and what do edits here say where the same quantity was measured?
create view published_and_ours as
with measured as (
    select
        lower(split_part(models.source, '/', -1)) as model,
        edits.method,
        covariances.kind as covariance,
        unnest([
            {'metric': 'numerator_norm', 'amount': numerator_norm},
            {'metric': 'abs_denominator', 'amount': abs(denominator)},
            {'metric': 'update_norm', 'amount': update_norm},
            {'metric': 'delta_norm', 'amount': delta_norm},
            {'metric': 'bare_value_norm', 'amount': bare_value_norm}
        ]) as measured
    from main.edits
    inner join main.models on models.model_id = edits.model_id
    left join main.covariances on covariances.covariance_id = edits.covariance_id
),
ours as (
    select
        model,
        method,
        covariance,
        measured.metric as metric,
        count(*) as n_edits,
        min(measured.amount) as minimum,
        median(measured.amount) as median,
        max(measured.amount) as maximum
    from measured
    -- Only rank-one methods have all of them.
    where measured.amount is not null
    group by model, method, covariance, measured.metric
)
select
    published.figure_id,
    published.work,
    published.place,
    published.model,
    published.metric,
    published.value as published_value,
    published.unit,
    published.remark,
    coalesce(published.method, ours.method) as method,
    coalesce(published.covariance, ours.covariance) as covariance,
    ours.n_edits,
    ours.minimum,
    ours.median,
    ours.maximum
from main.published
left join ours
    on ours.model = published.model
    and ours.metric = published.metric
    and (published.method is null or ours.method = published.method)
    and (published.covariance is null or ours.covariance = published.covariance)
order by published.figure_id, method, covariance;

comment on view published_and_ours is
    'Published figures, each beside the range of the same quantity over edits of the same model here, by method and second moment where the source does not say.';
comment on column published_and_ours.figure_id is 'Figure: published.figure_id.';
comment on column published_and_ours.work is 'Paper or repository. Text.';
comment on column published_and_ours.place is 'Where in it. Text.';
comment on column published_and_ours.model is
    'Model of the figure, by the last part of its hub id in lower case. Text. NULL = several.';
comment on column published_and_ours.metric is 'What was measured. Text.';
comment on column published_and_ours.unit is 'Unit, or none. Text.';
comment on column published_and_ours.remark is 'What to know before comparing. Text.';
comment on column published_and_ours.published_value is 'published.value, in its unit.';
comment on column published_and_ours.method is
    'Method of the figure; where its source does not say, that of our edits. Text. NULL = neither.';
comment on column published_and_ours.covariance is
    'Kind of the second moment, likewise. Text. NULL = neither.';
comment on column published_and_ours.n_edits is
    'Edits here of the same model, with the same method and second moment. Count. NULL = the quantity was not measured here.';
comment on column published_and_ours.minimum is 'Smallest over these edits. In the figure''s unit. NULL as n_edits.';
comment on column published_and_ours.median is 'Median over these edits. In the figure''s unit. NULL as n_edits.';
comment on column published_and_ours.maximum is 'Largest over these edits. In the figure''s unit. NULL as n_edits.';
