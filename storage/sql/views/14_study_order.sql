-- In which order does a study name its models?
create macro model_order(study_id_asked, model_named) as (
    select min(list_position(settings ->> '$.models[*].name', model_named))
    from main.studies
    where study_id = study_id_asked
);

comment on macro model_order is
    'Place of a model in its study file, by study_id and name; 1 is the first. For order by; NULL or 0 = the study names no such model.';
