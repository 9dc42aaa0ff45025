-- What others have published, beside what is measured here.
-- Published figures are those that were seen at their source: code, a repository's page, an abstract,
-- a thread. Figures of papers whose tables were not at hand are not here.

create table published (
    figure_id varchar not null,
    work varchar not null,
    place varchar not null,
    model varchar,
    method varchar,
    covariance varchar,
    dataset varchar,
    metric varchar not null,
    value double not null,
    unit varchar not null,
    remark varchar not null
);
comment on table published is
    'Figures that others have published, each seen at its source; view published_and_ours lays ours beside them.';
comment on column published.figure_id is 'Short name of the figure. Key.';
comment on column published.work is 'Paper or repository. Text.';
comment on column published.place is 'Where in it: a picture, a thread, a page, the abstract. Text.';
comment on column published.model is
    'Model, by the last part of its hub id in lower case. Text. NULL = several, or the source does not say.';
comment on column published.method is
    'Method, as in edits.method where it is one of ours. Text. NULL = several, or the source does not say.';
comment on column published.covariance is
    'Second moment, as in covariances.kind. Text. NULL = the source does not say.';
comment on column published.dataset is 'Edit requests. Text. NULL = the source does not say, or none.';
comment on column published.metric is
    'What was measured: the name of our column where it is the same quantity. Text.';
comment on column published.value is 'The figure, in its unit.';
comment on column published.unit is 'Unit, or none. Text.';
comment on column published.remark is 'What to know before comparing. Text.';

insert into published by name
with edits (work, place, method, covariance, remark, prefix, figures) as (
    values
        (
            'WanliYoung/Collapse-in-Model-Editing', 'Figures/output.png', null, null,
            'One edit of the official code''s example output, towards Elon Musk.', 'collapse_example',
            [
                {'metric': 'numerator_norm', 'value': 157.498},
                {'metric': 'abs_denominator', 'value': 0.0501945},
                {'metric': 'update_norm', 'value': 3137.7},
                {'metric': 'bare_value_norm', 'value': 108.16},
                {'metric': 'target_value_norm', 'value': 185.99}
            ]
        ),
        (
            'zjunlp/EasyEdit', 'issue 391', 'rome', 'identity',
            'One edit that does not collapse, as the program prints it.', 'easyedit_391',
            [
                {'metric': 'abs_denominator', 'value': 13.67},
                {'metric': 'delta_norm', 'value': 73.4},
                {'metric': 'bare_value_norm', 'value': 18.35},
                {'metric': 'target_value_norm', 'value': 74.6}
            ]
        )
)
select
    prefix || '_' || figure.metric as figure_id,
    work,
    place,
    'gpt2-xl' as model,
    method,
    covariance,
    null as dataset,
    figure.metric as metric,
    figure.value as value,
    'none' as unit,
    remark
from (select * exclude (figures), unnest(figures) as figure from edits);

insert into published by name
select
    'easyedit_readme_gb_' || method || '_' || model as figure_id,
    'zjunlp/EasyEdit' as work,
    'README' as place,
    model,
    method,
    null as covariance,
    null as dataset,
    'gpu_memory' as metric,
    gigabytes as value,
    'GB' as unit,
    'Of the whole program; the README does not say for how many edits.' as remark
from (
    values
        ('llama2-7b', 'rome', 31), ('chatglm2', 'rome', 29), ('gpt-j', 'rome', 27), ('gpt2-xl', 'rome', 10),
        ('llama2-7b', 'memit', 33), ('chatglm2', 'memit', 31), ('gpt-j', 'memit', 31), ('gpt2-xl', 'memit', 11),
        ('llama2-7b', 'ft', 60), ('chatglm2', 'ft', 58), ('gpt-j', 'ft', 55), ('gpt2-xl', 'ft', 7),
        ('llama2-7b', 'mend', 46), ('chatglm2', 'mend', 37), ('gpt-j', 'mend', 37), ('gpt2-xl', 'mend', 13)
) as memory (model, method, gigabytes);

insert into published by name
select * from (
    values
        (
            'easyedit_391_seconds', 'zjunlp/EasyEdit', 'issue 391', 'gpt2-xl', 'rome', 'identity', null,
            'seconds_per_edit', 5.04, 's', 'One user''s run of 3 edits, with evaluation.'
        ),
        (
            'easyedit_445_seconds', 'zjunlp/EasyEdit', 'issue 445', 'llama2', 'rome', null, null,
            'seconds_per_edit', 65, 's', 'One user''s sequential run, with evaluation.'
        ),
        (
            'easyedit_319_seconds', 'zjunlp/EasyEdit', 'issue 319', 'llama-2-7b-chat', null, 'corpus', null,
            'seconds_per_covariance_step', 19.94, 's', 'One user''s progress bar of the second moment.'
        ),
        (
            'wild_reported', 'The Mirage of Model Editing (arXiv 2502.11177)', 'abstract', null, null, null,
            null, 'edit_success_reported', 96.8, '%',
            'What earlier work reports of single edits, as the abstract sums it up.'
        ),
        (
            'wild_generated', 'The Mirage of Model Editing (arXiv 2502.11177)', 'abstract', null, null, null,
            null, 'edit_success_generated', 38.5, '%',
            'Single edits on question answering, evaluated without teacher forcing.'
        )
) as figures (
    figure_id, work, place, model, method, covariance, dataset, metric, value, unit, remark
);

-- A join of a million rows on text ids takes a fifth of a second; counting has to take less.
create table measured_edits (
    study varchar not null,
    study_id varchar not null,
    model varchar,
    method varchar not null,
    dataset varchar,
    subject_position varchar,
    perplexity double not null,
    perplexity_before double,
    nll_mean double not null,
    nll_mean_before double,
    perplexity_median double not null,
    perplexity_median_before double,
    subject varchar
);
comment on table measured_edits is
    'What counting collapses needs of each measured edit, out of edit_outcomes; filled anew by each build.';
comment on column measured_edits.study is 'Name of the study. Text.';
comment on column measured_edits.study_id is 'Study: studies.study_id.';
comment on column measured_edits.model is
    'Name of the model in the study. Text. NULL = its row has not arrived.';
comment on column measured_edits.method is 'Method: edits.method. Text.';
comment on column measured_edits.dataset is
    'Name of the file of edit requests. Text. NULL = its row has not arrived.';
comment on column measured_edits.subject_position is
    'Position of the subject: positions.subject_position. Text. NULL = its row has not arrived.';
comment on column measured_edits.perplexity is
    'Perplexity after the edit: measurements.perplexity. No unit; inf and nan are kept.';
comment on column measured_edits.perplexity_before is
    'Perplexity of the unedited model on the same texts. No unit. NULL = its row has not arrived.';
comment on column measured_edits.nll_mean is
    'Mean token NLL after the edit: measurements.nll_mean. Nats a token; inf and nan are kept.';
comment on column measured_edits.nll_mean_before is
    'nll_mean of the unedited model. Nats a token. NULL = its row has not arrived.';
comment on column measured_edits.perplexity_median is
    'Median over the texts after the edit: measurements.perplexity_median. No unit; inf and nan are kept.';
comment on column measured_edits.perplexity_median_before is
    'perplexity_median of the unedited model. No unit. NULL = its row has not arrived.';
comment on column measured_edits.subject is
    'Subject of the edit: requests.subject. Text. NULL = its row has not arrived.';
