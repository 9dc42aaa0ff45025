-- By a rule that the question names, did each measured edit collapse its model, and by other measures?
create macro judged_edits(
    threshold := main.collapse_rule().threshold,
    ratio := main.collapse_rule().ratio,
    measure := main.collapse_rule().measure,
    kinds := ['study']
) as table
select
    edits.*,
    coalesce(studies.kind, 'study') as study_kind,
    main.perplexity_by(measure, perplexity, nll_mean, perplexity_median) as after,
    main.perplexity_by(
        measure, perplexity_before, nll_mean_before, perplexity_median_before
    ) as before,
    after / before as perplexity_ratio,
    main.collapsed(after, before, threshold, ratio) as is_collapsed,
    main.collapsed(perplexity, perplexity_before, threshold, ratio) as is_by_mean,
    main.collapsed(exp(nll_mean), exp(nll_mean_before), threshold, ratio) as is_by_nll,
    main.collapsed(
        perplexity_median, perplexity_median_before, threshold, ratio
    ) as is_by_median
from main.measured_edits as edits
left join main.studies on studies.study_id = edits.study_id
where kinds is null or list_contains(kinds, coalesce(studies.kind, 'study'));

comment on macro table judged_edits is
    'Measured edits, each judged by a rule of collapse: its perplexities and their ratio by measure (after, before, perplexity_ratio), is_collapsed, and is_by_mean, is_by_nll, is_by_median by each measure; kinds as collapse_incidence has it.';
