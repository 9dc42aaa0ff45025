-- In which order does a study name its models?
create macro model_order(study_id_asked, model_named) as (
    select min(placed.place)
    from main.study_models as placed
    where placed.study_id = study_id_asked and placed.name = model_named
);

comment on macro model_order is
    'Place of a model in its study file, by study_id and name. Index from 0. For order by; NULL = the study names no such model.';
