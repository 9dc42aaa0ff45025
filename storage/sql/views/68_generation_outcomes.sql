-- What does each edit achieve when the model writes by itself, beside its teacher-forced scores?
create view generation_outcomes as
with answers as (
    select
        edit_id,
        generation_id,
        context,
        avg(exact_match::int) filter (probe = 'rewrite') as exact_efficacy,
        avg(exact_match_before::int) filter (probe = 'rewrite') as exact_efficacy_before,
        avg(exact_match::int) filter (probe = 'paraphrase') as exact_generalization,
        avg(exact_match::int) filter (probe = 'portability') as exact_portability,
        avg(contains_match::int) filter (probe = 'rewrite') as contains_efficacy,
        avg(contains_match_before::int) filter (probe = 'rewrite') as contains_efficacy_before,
        avg(contains_match::int) filter (probe = 'paraphrase') as contains_generalization,
        avg(contains_match::int) filter (probe = 'portability') as contains_portability,
        avg(same_tokens::int) filter (probe = 'neighborhood') as generated_locality,
        any_value(text) filter (probe = 'rewrite') as text,
        any_value(text_before) filter (probe = 'rewrite') as text_before,
        any_value(stopped_by) filter (probe = 'rewrite') as stopped_by,
        count(text) as n_answers,
        count(*) filter (text is null) as n_not_asked,
        any_value(reason) as reason
    from main.generated_answers
    where probe != 'fluency'
    group by edit_id, generation_id, context
),
judged as (
    select
        edit_id,
        generation_id,
        context,
        judge_id,
        avg(is_correct::int) filter (probe = 'rewrite') as judged_efficacy,
        avg(is_correct::int) filter (probe = 'paraphrase') as judged_generalization,
        avg(is_correct::int) filter (probe = 'portability') as judged_portability,
        count(*) filter (verdict is null) as n_not_judged
    from main.judged_answers
    group by edit_id, generation_id, context, judge_id
),
fluency as (
    select edit_id, generation_id, ngram_entropy, ngram_entropy_before
    from main.generated_answers
    where probe = 'fluency'
)
select
    edits.study,
    edits.study_id,
    edits.model,
    edits.method,
    edits.edit_id,
    edits.request_id,
    edits.subject,
    edits.prompt,
    edits.target_new,
    edits.subject_position,
    edits.collapsed,
    edits.perplexity_ratio,
    answers.context,
    edits.efficacy,
    answers.exact_efficacy,
    answers.contains_efficacy,
    judged.judged_efficacy,
    edits.efficacy_before,
    answers.exact_efficacy_before,
    answers.contains_efficacy_before,
    edits.generalization,
    answers.exact_generalization,
    answers.contains_generalization,
    judged.judged_generalization,
    edits.portability,
    answers.exact_portability,
    answers.contains_portability,
    judged.judged_portability,
    edits.locality,
    answers.generated_locality,
    fluency.ngram_entropy,
    fluency.ngram_entropy_before,
    answers.text,
    answers.text_before,
    answers.stopped_by,
    answers.n_answers,
    answers.n_not_asked,
    answers.reason,
    answers.generation_id,
    judged.judge_id,
    judged.n_not_judged
from answers
inner join main.edit_outcomes as edits on edits.edit_id = answers.edit_id
left join judged
    on judged.edit_id = answers.edit_id
    and judged.generation_id = answers.generation_id
    and judged.context = answers.context
left join fluency
    on fluency.edit_id = answers.edit_id
    and fluency.generation_id = answers.generation_id;

comment on view generation_outcomes is
    'One row for each edit that has answered freely in each context: scores of what it wrote by itself beside the teacher-forced scores of the same edit, never in one column. A row for each study, generation setting and judge there is.';
comment on column generation_outcomes.study is 'Name of the study. Text.';
comment on column generation_outcomes.study_id is 'Study: studies.study_id.';
comment on column generation_outcomes.model is 'Name of the model in the study. Text.';
comment on column generation_outcomes.edit_id is 'Edit: edits.edit_id.';
comment on column generation_outcomes.collapsed is 'edit_outcomes.collapsed. Boolean. NULL = not measured.';
comment on column generation_outcomes.perplexity_ratio is
    'edit_outcomes.perplexity_ratio. Ratio, no unit; inf and nan are kept.';
comment on column generation_outcomes.context is 'generated_answers.context. Text.';
comment on column generation_outcomes.efficacy is
    'Teacher-forced: share of the target''s tokens that are the likeliest, each behind those before it (table measurements). Fraction 0-1.';
comment on column generation_outcomes.exact_efficacy is
    'Free generation: whether the answer to the edited prompt is the new object after normalisation. 0 or 1. NULL = it could not be asked.';
comment on column generation_outcomes.contains_efficacy is
    'Free generation: whether that answer has the new object in it; not in the published evaluation. 0 or 1. NULL = it could not be asked.';
comment on column generation_outcomes.judged_efficacy is
    'Free generation: whether the judge calls that answer correct. 0 or 1. NULL = no judge, or no verdict of it.';
comment on column generation_outcomes.efficacy_before is
    'efficacy of the unedited model. Fraction 0-1.';
comment on column generation_outcomes.exact_efficacy_before is
    'exact_efficacy of the unedited model. 0 or 1. NULL = it could not be asked.';
comment on column generation_outcomes.contains_efficacy_before is
    'contains_efficacy of the unedited model. 0 or 1. NULL = it could not be asked.';
comment on column generation_outcomes.generalization is
    'Teacher-forced, on paraphrases (table measurements). Fraction 0-1. NULL = the request has no such prompts.';
comment on column generation_outcomes.exact_generalization is
    'Free generation: share of paraphrases answered with the new object, exactly. Fraction 0-1. NULL = none was asked.';
comment on column generation_outcomes.contains_generalization is
    'Free generation: share of paraphrases whose answer has the new object in it. Fraction 0-1. NULL = none was asked.';
comment on column generation_outcomes.judged_generalization is
    'Free generation: share of paraphrases whose answer the judge calls correct, of those with a verdict. Fraction 0-1. NULL = no verdict.';
comment on column generation_outcomes.portability is
    'Teacher-forced, on portability prompts (table measurements). Fraction 0-1. NULL = the request has no such prompts.';
comment on column generation_outcomes.exact_portability is
    'Free generation: share of portability prompts answered with their target, exactly. Fraction 0-1. NULL = none was asked.';
comment on column generation_outcomes.contains_portability is
    'Free generation: share of portability prompts whose answer has the target in it. Fraction 0-1. NULL = none was asked.';
comment on column generation_outcomes.judged_portability is
    'Free generation: share of portability prompts whose answer the judge calls correct, of those with a verdict. Fraction 0-1. NULL = no verdict.';
comment on column generation_outcomes.locality is
    'Teacher-forced: share of neighborhood tokens that stay the likeliest (table measurements). Fraction 0-1. NULL = the request has no such prompts.';
comment on column generation_outcomes.generated_locality is
    'Free generation: share of neighborhood prompts behind which the very tokens of the unedited model are written. Fraction 0-1. NULL = none was asked.';
comment on column generation_outcomes.ngram_entropy is
    'Fluency of the edited model''s text behind the edited prompt: generated_answers.ngram_entropy; of the edit, whatever the context. Bits. NULL = not asked for.';
comment on column generation_outcomes.ngram_entropy_before is
    'ngram_entropy of the unedited model. Bits. NULL = not asked for.';
comment on column generation_outcomes.text is
    'What the edited model answers to the edited prompt. Text. NULL = it could not be asked.';
comment on column generation_outcomes.text_before is
    'What the unedited model answers to it. Text. NULL = it could not be asked.';
comment on column generation_outcomes.stopped_by is
    'What ended the edited model''s answer: generated_answers.stopped_by. Text. NULL = it could not be asked.';
comment on column generation_outcomes.n_answers is 'Answers of the edit in the context. Count.';
comment on column generation_outcomes.n_not_asked is
    'Prompts that the model could not be asked. Count.';
comment on column generation_outcomes.reason is
    'Why, of one of them. One sentence. NULL = all were asked.';
comment on column generation_outcomes.generation_id is
    'How answers were generated: generation_settings.generation_id.';
comment on column generation_outcomes.judge_id is 'Judge: judges.judge_id. NULL = none was asked.';
comment on column generation_outcomes.n_not_judged is
    'Answers on which the judge gave no verdict. Count. NULL = none was asked.';
