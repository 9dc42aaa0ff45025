-- Where in two dimensions does the key of each request lie?
create view key_geometry as
with known_requests as (
    select distinct on (dataset_id, request_id) *
    from main.requests
    order by dataset_id, request_id, record_index
)
select
    studies.name as study,
    anatomies.study_id,
    study_models.name as model,
    anatomies.model_id,
    anatomies.layer,
    key_points.request_id,
    known_requests.case_id,
    known_requests.subject,
    known_requests.prompt,
    known_requests.target_new,
    key_points.kind,
    key_points.is_first_token,
    key_points.is_collapsed,
    key_points.norm,
    key_points.pca_x,
    key_points.pca_y,
    key_points.tsne_x,
    key_points.tsne_y,
    anatomies.collapse_threshold,
    anatomies.collapse_ratio,
    anatomies.collapse_measure,
    anatomies.vectors_path,
    key_points.vector_row,
    anatomies.anatomy_id
from main.anatomies
inner join main.key_points on key_points.anatomy_id = anatomies.anatomy_id
left join main.studies on studies.study_id = anatomies.study_id
left join main.study_models
    on study_models.study_id = anatomies.study_id
    and study_models.model_id = anatomies.model_id
    and study_models.layer = anatomies.layer
left join known_requests
    on known_requests.dataset_id = studies.dataset_id
    and known_requests.request_id = key_points.request_id;

comment on view key_geometry is
    'Keys in two dimensions with model, subject and prompt. Kinds solved are in a space of their own; all others share one.';
comment on column key_geometry.study is 'Name of the study. Text.';
comment on column key_geometry.study_id is 'Study whose edits were looked at: studies.study_id.';
comment on column key_geometry.model is 'Name of the model in the study. Text.';
comment on column key_geometry.model_id is 'Model: models.model_id.';
comment on column key_geometry.layer is 'Edited block. Index from 0.';
comment on column key_geometry.request_id is 'Edit request: requests.request_id.';
comment on column key_geometry.case_id is
    'The dataset''s own name of the record. Text. NULL = it gives none.';
comment on column key_geometry.is_first_token is
    'Whether the subject''s last token is the prompt''s first token, a start token aside. Boolean.';
comment on column key_geometry.anatomy_id is 'Root-cause study: anatomies.anatomy_id.';
comment on column key_geometry.kind is
    'bare (k0), prefixed (kbar), solved (C^-1 kbar), one_prefix (key behind one prefix drawn among the context templates) or first_token (key of the bare prompt''s first token, where that is not the subject''s last). Text.';
comment on column key_geometry.is_collapsed is
    'Whether the request''s edit by rome collapsed the model. Boolean. NULL = not measured.';
comment on column key_geometry.norm is 'Norm of the vector. No unit.';
comment on column key_geometry.pca_x is 'First principal component. Units of the key.';
comment on column key_geometry.pca_y is 'Second principal component. Units of the key.';
comment on column key_geometry.tsne_x is
    'First coordinate by t-SNE. No unit. NULL = too few vectors.';
comment on column key_geometry.tsne_y is
    'Second coordinate by t-SNE. No unit. NULL = too few vectors.';
comment on column key_geometry.vectors_path is
    'Parquet file of the vectors, below the results folder: columns request_id, kind, vector. Text.';
comment on column key_geometry.vector_row is
    'Row of the vector in the file anatomies.vectors_path. Index from 0.';
