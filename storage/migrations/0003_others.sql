-- What others have published and run, beside what is measured here.
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
    remark varchar not null,
    primary key (figure_id)
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

create table imported_runs (
    import_id varchar not null,
    source varchar not null,
    format varchar not null,
    model varchar,
    method varchar,
    n_records bigint not null,
    n_edits bigint not null,
    n_rejected bigint not null,
    unknown varchar not null,
    primary key (import_id)
);
comment on table imported_runs is
    'Results that other programs wrote, each taken in by python -m flows import.';
comment on column imported_runs.import_id is
    'Digest of the content and of what the run was called. Key.';
comment on column imported_runs.source is 'What the run is called: its folder or file, or --name. Text.';
comment on column imported_runs.format is 'Which program wrote it: memit or easyedit. Text.';
comment on column imported_runs.model is
    'Model, as whoever imported it said. Text. NULL = nobody said, and the files do not.';
comment on column imported_runs.method is
    'Method, as whoever imported it said. Text. NULL = nobody said, and the files do not.';
comment on column imported_runs.n_records is 'Records in the source. Count.';
comment on column imported_runs.n_edits is 'Records taken in. Count.';
comment on column imported_runs.n_rejected is
    'Records refused; table imported_rejections says why. Count.';
comment on column imported_runs.unknown is
    'What the source cannot say: quantities that it does not have, and columns that are empty in all its rows. Text.';

create table imported_edits (
    import_id varchar not null,
    record_index bigint not null,
    phase varchar not null,
    case_id varchar,
    subject varchar,
    prompt varchar not null,
    target_new varchar not null,
    target_true varchar,
    n_joint_edits bigint,
    duration_s double,
    efficacy double,
    generalization double,
    locality double,
    portability double,
    rewrite_correct double,
    paraphrase_correct double,
    neighborhood_correct double,
    efficacy_score double,
    efficacy_magnitude double,
    paraphrase_score double,
    paraphrase_magnitude double,
    neighborhood_score double,
    neighborhood_magnitude double,
    target_new_nll double,
    target_true_nll double,
    ngram_entropy double,
    reference_score double,
    essence_score double,
    target_perplexity double,
    primary key (import_id, record_index, phase)
);
comment on table imported_edits is
    'Answers that other programs recorded, before and after each edit. NULL = the source does not say.';
comment on column imported_edits.import_id is 'Import: imported_runs.import_id.';
comment on column imported_edits.record_index is 'Place of the record in its source. Index from 0.';
comment on column imported_edits.phase is 'post (after the edit) or pre (before). Text.';
comment on column imported_edits.case_id is
    'The source''s own name of the record. Text. NULL = it gives none.';
comment on column imported_edits.subject is 'The entity that is edited. Text. NULL = not said.';
comment on column imported_edits.prompt is 'Rewrite prompt with its subject. Text.';
comment on column imported_edits.target_new is 'The object to be written. Text.';
comment on column imported_edits.target_true is
    'The object believed before. Text. NULL = the source does not say.';
comment on column imported_edits.n_joint_edits is
    'Edits written into the model together with this one, itself included. Count. NULL = not said.';
comment on column imported_edits.duration_s is
    'How long the edit, or all joint ones, took. Seconds. NULL = not said.';
comment on column imported_edits.efficacy is
    'EasyEdit''s rewrite_acc: share of target_new''s tokens that are the argmax. Fraction 0-1. NULL = not said.';
comment on column imported_edits.generalization is
    'EasyEdit''s rephrase_acc, likewise. Fraction 0-1. NULL = not said.';
comment on column imported_edits.locality is
    'EasyEdit''s locality: share of answer tokens that are those of the unedited model, mean over its kinds. Fraction 0-1. NULL = not said.';
comment on column imported_edits.portability is
    'EasyEdit''s portability, mean over its kinds. Fraction 0-1. NULL = not said.';
comment on column imported_edits.rewrite_correct is
    'kmeng01''s rewrite_prompts_correct: share of prompts (CounterFact) or of tokens (zsRE) where target_new is the argmax. Fraction 0-1. NULL = not said.';
comment on column imported_edits.paraphrase_correct is
    'paraphrase_prompts_correct, likewise. Fraction 0-1. NULL = not said.';
comment on column imported_edits.neighborhood_correct is
    'neighborhood_prompts_correct, likewise for the true object. Fraction 0-1. NULL = not said.';
comment on column imported_edits.efficacy_score is
    'CounterFact''s ES of the record, from its NLLs. Fraction 0-1. NULL = not said.';
comment on column imported_edits.efficacy_magnitude is
    'CounterFact''s EM. Difference of probabilities, -1 to 1. NULL = not said.';
comment on column imported_edits.paraphrase_score is
    'CounterFact''s PS. Fraction 0-1. NULL = not said.';
comment on column imported_edits.paraphrase_magnitude is
    'CounterFact''s PM. Difference of probabilities, -1 to 1. NULL = not said.';
comment on column imported_edits.neighborhood_score is
    'CounterFact''s NS. Fraction 0-1. NULL = not said.';
comment on column imported_edits.neighborhood_magnitude is
    'CounterFact''s NM. Difference of probabilities, -1 to 1. NULL = not said.';
comment on column imported_edits.target_new_nll is
    'Rewrite prompt: mean negative log-likelihood of target_new''s tokens. Nats a token; inf and nan are kept. NULL = not said.';
comment on column imported_edits.target_true_nll is
    'Rewrite prompt: mean negative log-likelihood of target_true''s tokens. Nats a token; inf and nan are kept. NULL = not said.';
comment on column imported_edits.ngram_entropy is
    'Entropy of n-grams of generated text. Bits. NULL = not said.';
comment on column imported_edits.reference_score is
    'Cosine of tf-idf vectors of generated and reference text. 0 to 1. NULL = not said.';
comment on column imported_edits.essence_score is
    'kmeng01''s perplexity of texts about the subject. No unit. NULL = not said.';
comment on column imported_edits.target_perplexity is
    'EasyEdit''s rewrite_ppl, of the target alone; not the perplexity that shows a collapse. No unit. NULL = not said.';

create table imported_rejections (
    import_id varchar not null,
    record_index bigint not null,
    place varchar not null,
    reason varchar not null,
    primary key (import_id, record_index)
);
comment on table imported_rejections is 'Records of imports that could not be used, with the reason.';
comment on column imported_rejections.import_id is 'Import: imported_runs.import_id.';
comment on column imported_rejections.record_index is
    'Place of the record in its source. Index from 0.';
comment on column imported_rejections.place is 'Where a reader finds it: a file, a line or a record. Text.';
comment on column imported_rejections.reason is 'What was found. One sentence.';

-- A join of a million rows on text ids takes a fifth of a second; counting has to take less.
create table measured_edits (
    study varchar not null,
    study_id varchar not null,
    model varchar,
    method varchar not null,
    dataset varchar,
    subject_position varchar,
    perplexity double not null,
    perplexity_before double
);
comment on table measured_edits is
    'What counting collapses needs of each measured edit, out of edit_outcomes; filled anew by each publication.';
comment on column measured_edits.study is 'Name of the study. Text.';
comment on column measured_edits.study_id is 'Study: studies.study_id.';
comment on column measured_edits.model is
    'Name of the model in the study. Text. NULL = its row has not arrived.';
comment on column measured_edits.method is 'Method: edits.method. Text.';
comment on column measured_edits.dataset is
    'Name of the file of edit requests. Text. NULL = its row has not arrived.';
comment on column measured_edits.subject_position is
    'Place of the subject: positions.subject_position. Text. NULL = its row has not arrived.';
comment on column measured_edits.perplexity is
    'Perplexity after the edit: measurements.perplexity. No unit; inf and nan are kept.';
comment on column measured_edits.perplexity_before is
    'Perplexity of the unedited model on the same texts. No unit. NULL = its row has not arrived.';
