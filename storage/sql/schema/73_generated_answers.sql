-- What do edited models answer when they write by themselves, and what does a judge say of it?

create table generation_settings (
    generation_id varchar not null,
    n_tokens bigint not null,
    stops varchar not null,
    fluency_tokens bigint not null
);
comment on table generation_settings is
    'How free answers are generated: always the likeliest token, up to a length or a stop string.';
comment on column generation_settings.generation_id is 'Digest of the settings.';
comment on column generation_settings.n_tokens is 'Tokens of an answer at most. Count.';
comment on column generation_settings.stops is
    'Strings that end an answer beside the model''s own end of a text, quoted, blanks between them. Text.';
comment on column generation_settings.fluency_tokens is
    'Tokens that are written on for the fluency, 0 for none. Count.';

create table generated_answers (
    edit_id varchar not null,
    generation_id varchar not null,
    context varchar not null,
    probe varchar not null,
    prompt_index bigint not null,
    prompt varchar not null,
    target varchar,
    text varchar,
    text_before varchar,
    n_tokens bigint,
    n_tokens_before bigint,
    stopped_by varchar,
    exact_match boolean,
    exact_match_before boolean,
    contains_match boolean,
    contains_match_before boolean,
    same_tokens boolean,
    ngram_entropy double,
    ngram_entropy_before double,
    reason varchar
);
comment on table generated_answers is
    'What one edited model, and the unedited one, write by themselves behind one prompt in one context: free generation, with no token of the target given.';
comment on column generated_answers.edit_id is 'Edit: edits.edit_id.';
comment on column generated_answers.generation_id is
    'How it was generated: generation_settings.generation_id.';
comment on column generated_answers.context is
    'How the prompt was put: question (by itself), instruction (Please answer the question:) or chat (the tokenizer''s chat template). Text.';
comment on column generated_answers.probe is
    'What was asked: rewrite, paraphrase, neighborhood, portability, or fluency (the edited prompt as the beginning of a text). Text.';
comment on column generated_answers.prompt_index is
    'Which prompt of its kind of the request. Index from 0.';
comment on column generated_answers.prompt is 'The prompt, without its context. Text.';
comment on column generated_answers.target is
    'What the answer is compared with: the new object, or in the neighborhood what should stay. Text. NULL = nobody knows, or fluency.';
comment on column generated_answers.text is
    'What the edited model wrote, up to the first stop string. Text. NULL = it could not be asked, as reason says.';
comment on column generated_answers.text_before is
    'What the unedited model wrote, likewise. Text. NULL = as text.';
comment on column generated_answers.n_tokens is
    'Tokens that the edited model wrote, those that ended the text included. Count. NULL = as text.';
comment on column generated_answers.n_tokens_before is
    'Tokens that the unedited model wrote, likewise. Count. NULL = as text.';
comment on column generated_answers.stopped_by is
    'What ended the edited model''s text: stop string, end of text (the model''s own), length, positions (none is left in the model) or no number (logits that are nan). Text. NULL = as text.';
comment on column generated_answers.exact_match is
    'Whether text is target after normalisation: lower case, no punctuation, no articles, blanks joined (SQuAD). Boolean. NULL = no text, no target, or nothing is left of it.';
comment on column generated_answers.exact_match_before is
    'exact_match of the unedited model. Boolean. NULL = as exact_match.';
comment on column generated_answers.contains_match is
    'Whether text has target in it as whole words, after the same normalisation; not in the published evaluation. Boolean. NULL = as exact_match.';
comment on column generated_answers.contains_match_before is
    'contains_match of the unedited model. Boolean. NULL = as exact_match.';
comment on column generated_answers.same_tokens is
    'Whether the edited model wrote the very tokens that the unedited one wrote. Boolean. NULL = as text.';
comment on column generated_answers.ngram_entropy is
    'Entropy of the bigrams and trigrams of prompt and text, weights 2/3 and 4/3, mean of both: GE or fluency of published tables over 100. Bits. NULL = not of probe fluency, or fewer than three words.';
comment on column generated_answers.ngram_entropy_before is
    'ngram_entropy of the unedited model. Bits. NULL = as ngram_entropy.';
comment on column generated_answers.reason is
    'Why the model could not be asked: no chat template, or too long. One sentence. NULL = it was.';

create table judges (
    judge_id varchar not null,
    model varchar not null,
    prompt varchar not null,
    url varchar not null
);
comment on table judges is 'Language models that judged free answers.';
comment on column judges.judge_id is 'Digest of model and prompt, not of the URL.';
comment on column judges.model is 'Name of the judging model at its URL. Text.';
comment on column judges.prompt is
    'What it is asked, with places for question, target and answer. Text.';
comment on column judges.url is 'Where it answered, the last time. Text.';

create table judged_answers (
    edit_id varchar not null,
    generation_id varchar not null,
    context varchar not null,
    probe varchar not null,
    prompt_index bigint not null,
    judge_id varchar not null,
    reply varchar,
    verdict varchar,
    is_correct boolean,
    reason varchar
);
comment on table judged_answers is
    'What a judge said of an edited model''s free answer; one that failed or talked nonsense said nothing.';
comment on column judged_answers.edit_id is 'Edit: edits.edit_id.';
comment on column judged_answers.generation_id is
    'How the answer was generated: generation_settings.generation_id.';
comment on column judged_answers.context is 'generated_answers.context. Text.';
comment on column judged_answers.probe is
    'generated_answers.probe: rewrite, paraphrase or portability. Text.';
comment on column judged_answers.prompt_index is 'generated_answers.prompt_index. Index from 0.';
comment on column judged_answers.judge_id is 'Judge: judges.judge_id.';
comment on column judged_answers.reply is 'Its reply as it came. Text. NULL = none came.';
comment on column judged_answers.verdict is
    'correct, incorrect or not attempted. Text. NULL = no reply, or one that is none of the three.';
comment on column judged_answers.is_correct is
    'Whether the verdict is correct. Boolean. NULL = no verdict.';
comment on column judged_answers.reason is
    'Why there is no verdict. One sentence. NULL = there is one.';
