-- What did others publish of this study's models, beside all edits of these models here?
select
    figures.work,
    figures.place,
    figures.model,
    figures.method,
    figures.covariance,
    figures.metric,
    figures.published_value,
    figures.unit,
    figures.remark,
    figures.n_edits,
    figures.minimum,
    figures.median,
    figures.maximum
from published_and_ours as figures
where figures.n_edits is not null
    and figures.model in (
        select lower(split_part(models.source, '/', -1))
        from study_models
        inner join models using (model_id)
        where study_models.study_id = $study_id
    )
order by figures.work, figures.figure_id, figures.method, figures.covariance
