-- What was each study run as, when, and in which order does it name its models?
update studies
set kind = found.kind, first_run_at = found.first_run_at, last_run_at = found.last_run_at
from (
    select
        studies.study_id,
        case
            when bool_or(provenance.kind = 'study') then 'study'
            when bool_or(provenance.kind = 'reevaluation') then 'reevaluation'
            when bool_or(provenance.kind = 'single edit')
                -- Earlier versions left no record of it but this.
                or studies.description = 'One edit, asked for on the command line.'
                then 'single edit'
            else 'study'
        end as kind,
        min(provenance.started_at) as first_run_at,
        max(provenance.started_at) as last_run_at
    from studies
    left join provenance on provenance.study_id = studies.study_id
    group by studies.study_id, studies.description
) as found
where found.study_id = studies.study_id;

update study_models
set place = found.place
from (
    select
        study_models.study_id,
        study_models.model_id,
        study_models.layer,
        nullif(list_position(named.names, study_models.name), 0) - 1 as place
    from study_models
    inner join (
        select
            study_id,
            json_extract_string(
                if(json_valid(settings), settings, '{}'), '$.models[*].name'
            ) as names
        from studies
    ) as named on named.study_id = study_models.study_id
) as found
where found.study_id = study_models.study_id
    and found.model_id = study_models.model_id
    and found.layer = study_models.layer;
