-- What is left of a model's abilities beside what is left of its perplexity?
-- The view asks with the default rule, the macro of the same name with any other:
--     from downstream_outcomes;
--     from downstream_outcomes(threshold := 500, ratio := null);
--     from downstream_outcomes(measure := 'nll');
create macro downstream_outcomes(
    threshold := main.collapse_rule().threshold,
    ratio := main.collapse_rule().ratio,
    measure := main.collapse_rule().measure
) as table
with damage as (
    select
        study,
        study_id,
        model,
        method,
        subject,
        'edit ' || edit_id as what,
        main.perplexity_by(measure, perplexity, nll_mean, perplexity_median) as perplexity,
        main.perplexity_by(
            measure, perplexity_before, nll_mean_before, perplexity_median_before
        ) as perplexity_before,
        text_change
    from main.edit_outcomes
    union all
    select
        study,
        study_id,
        model,
        method,
        null as subject,
        'sequence ' || sequence_id || ' ' || step as what,
        perplexity,
        perplexity_before,
        text_change
    from main.sequence_outcomes(threshold := threshold, ratio := ratio, measure := measure)
    union all
    select
        studies.name as study,
        studies.study_id,
        study_models.name as model,
        null as method,
        null as subject,
        'unedited ' || study_models.model_id as what,
        main.perplexity_by(measure, base.perplexity, base.nll_mean, base.perplexity_median)
            as perplexity,
        main.perplexity_by(measure, base.perplexity, base.nll_mean, base.perplexity_median)
            as perplexity_before,
        0.0::double as text_change
    from main.study_models
    inner join main.studies on studies.study_id = study_models.study_id
    left join main.base_perplexities as base
        on base.model_id = study_models.model_id and base.evaluation_id = studies.evaluation_id
),
scores as (
    select
        *,
        case kind
            when 'edit' then 'edit ' || edit_id
            when 'sequence' then 'sequence ' || sequence_id || ' ' || step
            else kind || ' ' || model_id
        end as what
    from main.downstream_scores
)
select
    damage.study,
    damage.model,
    scores.kind,
    damage.method,
    damage.subject,
    scores.task,
    scores.metric,
    scores.filter,
    scores.value as score,
    unedited.value as score_before,
    scores.value - unedited.value as score_change,
    scores.stderr as score_stderr,
    damage.perplexity,
    damage.perplexity_before,
    damage.perplexity / damage.perplexity_before as perplexity_ratio,
    main.collapsed(damage.perplexity, damage.perplexity_before, threshold, ratio) as collapsed,
    damage.text_change,
    scores.higher_is_better,
    scores.n_samples,
    scores.n_without_answer,
    scores.n_shot,
    scores.sample_limit,
    scores.task_version,
    scores.task_digest,
    scores.harness_version,
    scores.label,
    scores.edit_id,
    scores.sequence_id,
    scores.step,
    scores.model_id,
    damage.study_id,
    scores.score_set_id
from scores
left join damage on damage.what = scores.what
left join main.downstream_scores as unedited
    on unedited.kind = 'unedited'
    and scores.kind <> 'exported'
    and unedited.model_id = scores.model_id
    and unedited.asked_task = scores.asked_task
    and unedited.task = scores.task
    and unedited.metric = scores.metric
    and unedited.filter = scores.filter
    and unedited.harness_version = scores.harness_version
    and unedited.task_digest is not distinct from scores.task_digest
    and unedited.n_shot is not distinct from scores.n_shot
    and unedited.sample_limit is not distinct from scores.sample_limit
order by
    damage.study, damage.study_id, main.model_order(damage.study_id, damage.model), damage.model,
    scores.task, scores.metric, scores.filter, scores.kind <> 'unedited',
    damage.perplexity desc, scores.score_set_id;

create view downstream_outcomes as
select * from main.downstream_outcomes();

comment on macro table downstream_outcomes is
    'Scores of downstream tasks beside perplexity and the change on text, with the rule of collapse as argument; perplexities are by its measure.';
comment on view downstream_outcomes is
    'Scores of downstream tasks of each edited model, beside the unedited model''s, its perplexity and the change of the layer''s output on text. One row a study, model, update, task and metric; default rule of collapse.';
comment on column downstream_outcomes.study is
    'Name of the study. Text. NULL = an exported model, or a state of a sequence that was not measured.';
comment on column downstream_outcomes.model is
    'Name of the model in the study. Text. NULL as study.';
comment on column downstream_outcomes.kind is 'downstream_scores.kind. Text.';
comment on column downstream_outcomes.method is
    'What edits, by its name in the catalog. Text. NULL = not edited, or as study.';
comment on column downstream_outcomes.subject is
    'The entity that was edited. Text. NULL = no single edit.';
comment on column downstream_outcomes.task is 'downstream_scores.task. Text.';
comment on column downstream_outcomes.metric is 'downstream_scores.metric. Text.';
comment on column downstream_outcomes.filter is 'downstream_scores.filter. Text.';
comment on column downstream_outcomes.score is
    'downstream_scores.value. Unit of the metric; inf is kept. NULL = not known.';
comment on column downstream_outcomes.score_before is
    'The unedited model''s score, asked in the same way. Unit of the metric. NULL = not known, or exported.';
comment on column downstream_outcomes.score_change is
    'score - score_before. Unit of the metric. NULL = either is.';
comment on column downstream_outcomes.score_stderr is
    'downstream_scores.stderr. Unit of the metric. NULL = none is known.';
comment on column downstream_outcomes.perplexity is
    'Perplexity of the edited model, by the rule''s measure. No unit; inf and nan are kept. NULL = not measured.';
comment on column downstream_outcomes.perplexity_before is
    'Perplexity of the unedited model on the same texts, by the rule''s measure. No unit. NULL = not measured.';
comment on column downstream_outcomes.perplexity_ratio is
    'perplexity / perplexity_before. Ratio, no unit; inf and nan are kept. NULL = not measured.';
comment on column downstream_outcomes.collapsed is
    'Whether the model has collapsed by the rule. Boolean. NULL = not measured.';
comment on column downstream_outcomes.text_change is
    'Change of the layer''s output on text by the update, of a sequence by the sum of its updates. Ratio, no unit; inf and nan are kept. NULL = not measured.';
comment on column downstream_outcomes.higher_is_better is
    'downstream_scores.higher_is_better. Boolean. NULL = lm_eval does not say.';
comment on column downstream_outcomes.n_samples is 'Items that were asked. Count.';
comment on column downstream_outcomes.n_without_answer is
    'downstream_scores.n_without_answer. Count.';
comment on column downstream_outcomes.n_shot is
    'Examples before each item. Count. NULL = a group whose tasks differ.';
comment on column downstream_outcomes.sample_limit is
    'Items of each task at most. Count. NULL = all of them.';
comment on column downstream_outcomes.task_version is
    'downstream_scores.task_version. Text. NULL = it states none.';
comment on column downstream_outcomes.task_digest is
    'downstream_scores.task_digest. Hex digits. NULL = a task of lm_eval''s own.';
comment on column downstream_outcomes.harness_version is 'Version of lm_eval. Text.';
comment on column downstream_outcomes.label is 'What was done to the model, for people. Text.';
comment on column downstream_outcomes.edit_id is 'Edit: edits.edit_id. NULL = another kind.';
comment on column downstream_outcomes.sequence_id is
    'Sequence: sequences.sequence_id. NULL = another kind.';
comment on column downstream_outcomes.step is
    'Last step of the sequence that counts. Index from 1. NULL = no sequence.';
comment on column downstream_outcomes.model_id is
    'The unedited model; of an exported one its own id.';
comment on column downstream_outcomes.study_id is 'Study: studies.study_id. NULL as study.';
comment on column downstream_outcomes.score_set_id is 'downstream_scores.score_set_id.';

-- Is perplexity the right surrogate: does it order edited models as their abilities do?
-- Spearman's rank correlation, ties sharing their rank; nan and inf are the largest damage. The interval is Fisher's z with
-- the standard error sqrt((1 + r^2 / 2) / (n - 3)) of Bonett and Wright (Psychometrika 65, 2000, 23-28); edits that share a
-- subject are no independent draws, so it is narrower than it should be where many do.
create macro spearman_low(r, n) as
    case
        when n >= 4 and abs(r) < 1 - 1e-12
            then tanh(atanh(r) - 1.959963984540054 * sqrt((1 + r * r / 2) / (n - 3)))
    end;

create macro spearman_high(r, n) as
    case
        when n >= 4 and abs(r) < 1 - 1e-12
            then tanh(atanh(r) + 1.959963984540054 * sqrt((1 + r * r / 2) / (n - 3)))
    end;

comment on macro spearman_low is
    'Lower end of the 95 % interval of a rank correlation r of n pairs, by Fisher''s z with the standard error of Bonett and Wright (2000); NULL where n is below 4, or r is -1 or 1.';
comment on macro spearman_high is
    'Upper end of the 95 % interval of a rank correlation r of n pairs, by Fisher''s z with the standard error of Bonett and Wright (2000); NULL where n is below 4, or r is -1 or 1.';

create macro downstream_correlation(measure := main.collapse_rule().measure) as table
with pairs as (
    select
        study,
        study_id,
        model,
        task,
        metric,
        filter,
        higher_is_better,
        n_shot,
        sample_limit,
        task_digest,
        harness_version,
        score,
        unnest(['perplexity_ratio', 'text_change']) as surrogate,
        unnest([perplexity_ratio, text_change]) as damage
    from main.downstream_outcomes(measure := measure)
    where kind in ('edit', 'sequence') and study_id is not null
),
known as (
    select
        *,
        concat_ws(
            ' ', study_id, model, task, metric, filter, n_shot, sample_limit, task_digest,
            harness_version, surrogate
        ) as series
    from pairs
    where score is not null and damage is not null
),
ranked as (
    select
        *,
        rank() over (partition by series order by score)
        + (count(*) over (partition by series, score) - 1) / 2.0 as score_place,
        rank() over (partition by series order by damage)
        + (count(*) over (partition by series, damage) - 1) / 2.0 as damage_place
    from known
),
correlated as (
    select
        any_value(study) as study,
        any_value(model) as model,
        any_value(task) as task,
        any_value(metric) as metric,
        any_value(filter) as filter,
        any_value(surrogate) as surrogate,
        count(*) as n_edits,
        case
            when
                count(*) >= 4
                and count(distinct score_place) > 1
                and count(distinct damage_place) > 1
                then corr(score_place, damage_place)
        end as spearman,
        any_value(higher_is_better) as higher_is_better,
        any_value(n_shot) as n_shot,
        any_value(sample_limit) as sample_limit,
        any_value(task_digest) as task_digest,
        any_value(harness_version) as harness_version,
        any_value(study_id) as study_id
    from ranked
    group by series
)
select
    study,
    model,
    task,
    metric,
    filter,
    surrogate,
    n_edits,
    spearman,
    main.spearman_low(spearman, n_edits) as spearman_low,
    main.spearman_high(spearman, n_edits) as spearman_high,
    higher_is_better,
    n_shot,
    sample_limit,
    task_digest,
    harness_version,
    study_id
from correlated
order by
    study, study_id, main.model_order(study_id, model), model, task, metric, filter, surrogate,
    n_shot, sample_limit, task_digest, harness_version;

create view downstream_correlation as
select * from main.downstream_correlation();

comment on macro table downstream_correlation is
    'downstream_correlation with the measure of perplexity as argument: mean, nll or median.';
comment on view downstream_correlation is
    'Spearman''s rank correlations of downstream scores with the perplexity ratio and with the change on text, over the edited models of a study that were asked, by model, task and metric; the unedited model is none of them.';
comment on column downstream_correlation.study is 'Name of the study. Text.';
comment on column downstream_correlation.model is 'Name of the model in the study. Text.';
comment on column downstream_correlation.task is 'downstream_scores.task. Text.';
comment on column downstream_correlation.metric is 'downstream_scores.metric. Text.';
comment on column downstream_correlation.filter is 'downstream_scores.filter. Text.';
comment on column downstream_correlation.surrogate is
    'What the score is correlated with: perplexity_ratio or text_change. Text.';
comment on column downstream_correlation.n_edits is
    'Edited models with both numbers; single edits and states of sequences. Count.';
comment on column downstream_correlation.spearman is
    'Spearman''s correlation of score and surrogate; -1: a score that is better when larger falls as damage grows. -1 to 1. NULL = fewer than four, or one of the two is the same for all.';
comment on column downstream_correlation.spearman_low is
    'Lower end of its 95 % interval (Fisher''s z, standard error by Bonett and Wright). -1 to 1. NULL = spearman is, or is -1 or 1, where there is none.';
comment on column downstream_correlation.spearman_high is
    'Upper end of its 95 % interval. -1 to 1. NULL as spearman_low.';
comment on column downstream_correlation.higher_is_better is
    'downstream_scores.higher_is_better. Boolean. NULL = lm_eval does not say.';
comment on column downstream_correlation.n_shot is
    'Examples before each item. Count. NULL = a group whose tasks differ.';
comment on column downstream_correlation.sample_limit is
    'Items of each task at most. Count. NULL = all of them.';
comment on column downstream_correlation.task_digest is
    'downstream_scores.task_digest. Hex digits. NULL = a task of lm_eval''s own.';
comment on column downstream_correlation.harness_version is 'Version of lm_eval. Text.';
comment on column downstream_correlation.study_id is 'Study: studies.study_id.';
