-- Which ids belong to one study? A row of a table is the study's where its ids are among these.
create or replace temp table study_keys as
with guarded as (
    select * from main.guard_decisions where study_id = $study_id
),
foreseen as (
    -- A refused edit has no row in edits; its decision repeats its forecast's bound.
    select forecasts.*
    from main.forecasts
    inner join guarded
        on guarded.model_id = forecasts.model_id
        and guarded.layer = forecasts.layer
        and guarded.method = forecasts.method
        and guarded.request_id = forecasts.request_id
        and guarded.text_change_bound = forecasts.text_change_bound
),
edited as (
    select edits.* from main.edits inner join main.study_edits using (edit_id)
    where study_edits.study_id = $study_id
),
sequenced as (
    select sequences.* from main.sequences inner join main.study_sequences using (sequence_id)
    where study_sequences.study_id = $study_id
),
used_layers as (
    select model_id, layer from main.study_models where study_id = $study_id
    union
    select model_id, layer from edited
    union
    select model_id, unnest(layers) from sequenced
)
select distinct name, id
from (
    select 'study_id' as name, $study_id as id
    union all
    select 'edit_id', edit_id from edited
    union all
    select 'edit_id', edit_id from foreseen
    union all
    select 'sequence_id', sequence_id from sequenced
    union all
    select 'anatomy_id', anatomy_id from main.anatomies where study_id = $study_id
    union all
    select 'calibration_id', calibration_id from guarded
    union all
    select 'model_id', model_id from main.study_models where study_id = $study_id
    union all
    select 'model_id', ''  -- of what no model can take
    union all
    select 'dataset_id', dataset_id from main.studies where study_id = $study_id
    union all
    select 'dataset_id', made_dataset_id from guarded
    union all
    select 'request_id', request_id from main.requests
    where dataset_id in (
        select dataset_id from main.studies where study_id = $study_id
        union all
        select made_dataset_id from guarded
    )
    union all
    select 'evaluation_id', evaluation_id from main.studies where study_id = $study_id
    union all
    select 'template_set_id', template_set_id from edited
    union all
    select 'template_set_id', template_set_id from foreseen
    union all
    select 'template_set_id', template_set_id from sequenced
    union all
    select 'covariance_id', covariance_id from edited
    union all
    select 'covariance_id', covariance_id from foreseen
    union all
    select 'covariance_id', covariance_id
    from main.covariances inner join used_layers using (model_id, layer)
    union all
    select 'settings_id', settings_id from edited
    union all
    select 'settings_id', settings_id from foreseen
    union all
    select 'settings_id', settings_id from sequenced
    union all
    select 'generation_id', generation_id
    from main.generated_answers inner join edited using (edit_id)
    union all
    select 'judge_id', judge_id
    from main.judged_answers inner join edited using (edit_id)
)
where id is not null
