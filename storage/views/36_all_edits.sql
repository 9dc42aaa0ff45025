-- How do others' edits look next to ours?
create view all_edits as
with named as (
    -- A run that was imported again when it had grown counts once: the larger import.
    select *
    from main.imported_runs
    qualify row_number() over (
        partition by source, format, model, method order by n_edits desc, import_id
    ) = 1
)
select
    'here' as origin,
    study as run,
    model,
    method,
    replace(prompt, '{}', subject) as prompt,
    subject,
    target_new,
    target_true,
    1 as n_joint_edits,
    efficacy,
    generalization,
    locality,
    efficacy_score,
    paraphrase_score,
    neighborhood_score,
    target_new_nll,
    target_true_nll,
    abs(denominator) as abs_denominator,
    update_norm,
    perplexity,
    perplexity_before
from main.edit_outcomes
union all by name
select
    named.format as origin,
    named.source as run,
    named.model,
    named.method,
    edits.prompt,
    edits.subject,
    edits.target_new,
    edits.target_true,
    edits.n_joint_edits,
    edits.efficacy,
    edits.generalization,
    edits.locality,
    edits.efficacy_score,
    edits.paraphrase_score,
    edits.neighborhood_score,
    edits.target_new_nll,
    edits.target_true_nll
from named
inner join main.imported_edits as edits
    on edits.import_id = named.import_id and edits.phase = 'post';

comment on view all_edits is
    'Edits of studies here and of imported runs in one list, with the columns that both can have. NULL = not measured, or the source does not say.';
comment on column all_edits.origin is 'here, or the program that wrote the results: memit, easyedit. Text.';
comment on column all_edits.run is 'Name of the study, or of the imported run. Text.';
comment on column all_edits.model is
    'Name of the model in the study, or as the import was told. Text. NULL = it was not told.';
comment on column all_edits.method is
    'Method, or as the import was told. Text. NULL = it was not told.';
comment on column all_edits.prompt is 'Rewrite prompt with its subject. Text.';
comment on column all_edits.n_joint_edits is
    'Edits written into one model together: 1 here. Count. NULL = the source does not say.';
comment on column all_edits.abs_denominator is
    'abs(denominator). No unit. NULL = not known of others'' edits.';
comment on column all_edits.perplexity_before is
    'Perplexity of the unedited model on the same texts. No unit. NULL = not known of others'' edits.';
