-- Columns that no row file has: each publication derives them from other rows
-- (queries/derived_columns.sql).

alter table studies add column kind varchar;
alter table studies add column first_run_at varchar;
alter table studies add column last_run_at varchar;
comment on column studies.kind is
    'What it was run as: study, single edit (editcollapse edit) or reevaluation (a study''s edits on other texts). Text. NULL = not published yet.';
comment on column studies.first_run_at is
    'When it was run for the first time. UTC, ISO 8601 text. NULL = by an earlier version, or elsewhere.';
comment on column studies.last_run_at is
    'When a run of it last began to compute something; what is cached is not computed again. UTC, ISO 8601 text. NULL as first_run_at.';

alter table study_models add column place bigint;
comment on column study_models.place is
    'Place of the model in the study file. Index from 0. NULL = the study''s settings do not name it.';
