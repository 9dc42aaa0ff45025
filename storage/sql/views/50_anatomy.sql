-- Why does it collapse: what was observed on the keys of a study, with which interval?
create view anatomy as
select
    studies.name as study,
    anatomies.study_id,
    study_models.name as model,
    anatomies.model_id,
    anatomies.layer,
    findings.grouping,
    findings.observation,
    findings.value,
    findings.low,
    findings.high,
    findings.n_group,
    findings.n_others,
    findings.interval,
    findings.statement,
    anatomies.n_requests,
    anatomies.n_first_token,
    anatomies.n_collapsed,
    anatomies.collapse_threshold,
    anatomies.collapse_ratio,
    anatomies.collapse_measure,
    anatomies.covariance_id,
    anatomies.template_set_id,
    anatomies.d_key,
    anatomies.seed,
    anatomies.anatomy_id,
    list_position(
        [
            'denominator_ratio',
            'numerator_ratio',
            'bare_silhouette',
            'prefixed_silhouette',
            'solved_silhouette',
            'key_cosine_group',
            'key_cosine_others',
            'first_tokens_with_group',
            'one_prefix_with_others'
        ],
        findings.observation
    ) as observation_order
from main.anatomies
inner join main.anatomy_findings as findings on findings.anatomy_id = anatomies.anatomy_id
left join main.studies on studies.study_id = anatomies.study_id
left join main.study_models
    on study_models.study_id = anatomies.study_id
    and study_models.model_id = anatomies.model_id
    and study_models.layer = anatomies.layer;

comment on view anatomy is
    'Observations of the root-cause studies, each a number with a 95 % interval and a sentence.';
comment on column anatomy.study is 'Name of the study. Text.';
comment on column anatomy.study_id is 'Study whose edits were looked at: studies.study_id.';
comment on column anatomy.model is 'Name of the model in the study. Text.';
comment on column anatomy.model_id is 'Model: models.model_id.';
comment on column anatomy.layer is 'Edited block. Index from 0.';
comment on column anatomy.observation is
    'What was compared: denominator_ratio, numerator_ratio (medians, group over others), bare_, prefixed_ or solved_silhouette (of k0, kbar, C^-1 kbar; cosine distance), key_cosine_group, key_cosine_others (of k0 and kbar), first_tokens_with_group, one_prefix_with_others (shares by the nearer mean k0). Text.';
comment on column anatomy.covariance_id is 'Second moment: covariances.covariance_id.';
comment on column anatomy.template_set_id is
    'Set of context templates: templates.template_set_id.';
comment on column anatomy.seed is 'Seed of the drawn prefixes, of t-SNE and of the intervals. Integer.';
comment on column anatomy.anatomy_id is 'Root-cause study: anatomies.anatomy_id.';
comment on column anatomy.observation_order is 'Place of the observation in a table. Index from 1.';
comment on column anatomy.grouping is
    'What the requests are parted by: first_token (the subject''s last token is the prompt''s first token) or collapsed (edit by rome collapsed the model). Text.';
comment on column anatomy.value is 'The number; statement says what it means. No unit.';
comment on column anatomy.low is 'Lower end of its 95 % interval.';
comment on column anatomy.high is 'Upper end of its 95 % interval.';
comment on column anatomy.n_group is 'Vectors or requests in the group. Count.';
comment on column anatomy.n_others is 'Vectors or requests beside it. Count.';
comment on column anatomy.interval is 'How the interval was made. Text.';
comment on column anatomy.statement is 'The observation in words. One sentence.';
comment on column anatomy.n_first_token is
    'Of these, requests whose subject''s last token is the prompt''s first token. Count.';
