-- How do two methods on one model, two models under one method, or two settings differ?
-- Edits are paired by request, so that hard and easy requests weigh alike on both sides. Each pair
-- of sides stands twice, once each way: ask for the side a that you compare with.
--     from compare where method_a = 'rome' and quantity = 'collapsed';
--     from compare(threshold := 500, ratio := null) where differs = 'model';
-- Single edits and re-evaluations are left out unless kinds asks for them.
create macro compare(
    threshold := main.collapse_rule().threshold,
    ratio := main.collapse_rule().ratio,
    measure := main.collapse_rule().measure,
    kinds := ['study']
) as table
with judged as (
    select
        outcomes.study,
        outcomes.study_id,
        outcomes.model,
        outcomes.model_id,
        outcomes.layer,
        outcomes.method,
        outcomes.edit_id,
        outcomes.request_id,
        outcomes.evaluation_id,
        studies.numerics,
        main.perplexity_by(measure, perplexity, nll_mean, perplexity_median) as after,
        main.perplexity_by(
            measure, perplexity_before, nll_mean_before, perplexity_median_before
        ) as before,
        after / before as measured_ratio,
        {
            'collapsed': main.collapsed(after, before, threshold, ratio)::double,
            'efficacy': efficacy,
            'efficacy_prefix_mean': efficacy_prefix_mean,
            'generalization': generalization,
            'locality': locality,
            'efficacy_score': efficacy_score,
            'paraphrase_score': paraphrase_score,
            'neighborhood_score': neighborhood_score,
            'log10_perplexity_ratio': case
                when isnan(measured_ratio) then 'inf'::double
                when measured_ratio > 0 then log10(measured_ratio)
            end,
            'log10_relative_update_norm': case
                when relative_update_norm > 0 then log10(relative_update_norm)
            end
        } as amounts
    from main.edit_outcomes as outcomes
    inner join main.studies on studies.study_id = outcomes.study_id
    where perplexity is not null and (kinds is null or list_contains(kinds, outcomes.study_kind))
),
paired as (
    select
        a.study as study_a,
        a.study_id as study_id_a,
        a.model as model_a,
        a.method as method_a,
        b.study as study_b,
        b.study_id as study_id_b,
        b.model as model_b,
        b.method as method_b,
        case
            when a.method != b.method then 'method'
            when a.model_id = b.model_id and a.layer = b.layer then 'settings'
            else 'model'
        end as differs,
        unnest([
            {'quantity': 'collapsed', 'statistic': 'share',
                'a': a.amounts.collapsed, 'b': b.amounts.collapsed},
            {'quantity': 'efficacy', 'statistic': 'mean',
                'a': a.amounts.efficacy, 'b': b.amounts.efficacy},
            {'quantity': 'efficacy_prefix_mean', 'statistic': 'mean',
                'a': a.amounts.efficacy_prefix_mean, 'b': b.amounts.efficacy_prefix_mean},
            {'quantity': 'generalization', 'statistic': 'mean',
                'a': a.amounts.generalization, 'b': b.amounts.generalization},
            {'quantity': 'locality', 'statistic': 'mean',
                'a': a.amounts.locality, 'b': b.amounts.locality},
            {'quantity': 'efficacy_score', 'statistic': 'mean',
                'a': a.amounts.efficacy_score, 'b': b.amounts.efficacy_score},
            {'quantity': 'paraphrase_score', 'statistic': 'mean',
                'a': a.amounts.paraphrase_score, 'b': b.amounts.paraphrase_score},
            {'quantity': 'neighborhood_score', 'statistic': 'mean',
                'a': a.amounts.neighborhood_score, 'b': b.amounts.neighborhood_score},
            {'quantity': 'log10_perplexity_ratio', 'statistic': 'median',
                'a': a.amounts.log10_perplexity_ratio, 'b': b.amounts.log10_perplexity_ratio},
            {'quantity': 'log10_relative_update_norm', 'statistic': 'median',
                'a': a.amounts.log10_relative_update_norm,
                'b': b.amounts.log10_relative_update_norm}
        ]) as measured
    from judged as a
    inner join judged as b
        on b.request_id = a.request_id
        and b.evaluation_id = a.evaluation_id
        and b.numerics = a.numerics
        and (a.study_id, a.model, a.layer, a.method) < (b.study_id, b.model, b.layer, b.method)
    where case
        -- Two methods are those of one study; two models or settings may be of two studies.
        when a.method != b.method
            then a.study_id = b.study_id and a.model_id = b.model_id and a.layer = b.layer
        else a.edit_id != b.edit_id
    end
),
differences as (
    select
        * exclude (measured),
        measured.quantity as quantity,
        measured.statistic as statistic,
        measured.a as a,
        measured.b as b,
        measured.b - measured.a as d
    from paired
    -- Where both are infinite there is no difference to speak of.
    where not isnan(measured.b - measured.a)
),
summed as (
    select
        study_a, study_id_a, model_a, method_a, study_b, study_id_b, model_b, method_b,
        differs, quantity, statistic,
        count(*) as n_pairs,
        if(statistic = 'median', median(a), avg(a)) as value_a,
        if(statistic = 'median', median(b), avg(b)) as value_b,
        if(statistic = 'median', median(d), avg(d)) as difference,
        -- Agresti & Min (2005): half an edit more in each of the four cells.
        count(*) filter (where d > 0) - count(*) filter (where d < 0) as net,
        count(*) filter (where d != 0) as changed,
        if(isfinite(min(d)) and isfinite(max(d)), stddev_samp(if(isfinite(d), d, null)), null)
            as deviation,
        list(d order by d) as ordered,
        -- The median lies between these two order statistics with 95 % (sign test).
        floor((count(*) + 1) / 2 - 1.959963984540054 * sqrt(count(*)) / 2)::bigint as place
    from differences
    group by
        study_a, study_id_a, model_a, method_a, study_b, study_id_b, model_b, method_b,
        differs, quantity, statistic
),
bounded as (
    select
        * exclude (net, changed, deviation, ordered, place),
        case statistic
            when 'share' then greatest(-1, net / (n_pairs + 2)
                - 1.959963984540054 * sqrt(changed + 1 - net * net / (n_pairs + 2)) / (n_pairs + 2))
            when 'mean' then difference - main.t_quantile(n_pairs - 1) * deviation / sqrt(n_pairs)
            when 'median' then if(place >= 1, ordered[place], null)
        end as low,
        case statistic
            when 'share' then least(1, net / (n_pairs + 2)
                + 1.959963984540054 * sqrt(changed + 1 - net * net / (n_pairs + 2)) / (n_pairs + 2))
            when 'mean' then difference + main.t_quantile(n_pairs - 1) * deviation / sqrt(n_pairs)
            when 'median' then if(place >= 1, ordered[n_pairs + 1 - place], null)
        end as high
    from summed
),
both_ways as (
    select * from bounded
    union all by name
    select
        study_b as study_a, study_id_b as study_id_a, model_b as model_a, method_b as method_a,
        study_a as study_b, study_id_a as study_id_b, model_a as model_b, method_a as method_b,
        differs, quantity, statistic, n_pairs,
        value_b as value_a, value_a as value_b, 0 - difference as difference,
        0 - high as low, 0 - low as high
    from bounded
)
select
    differs, study_a, model_a, method_a, study_b, model_b, method_b, quantity, statistic,
    n_pairs, value_a, value_b, difference, low, high, study_id_a, study_id_b
from both_ways
order by differs, study_a, model_a, method_a, study_b, model_b, method_b, quantity;

create view compare as
select * from main.compare();

comment on macro table compare is
    'Two methods, models or settings, paired by request, with the rule of collapse as argument, and kinds as collapse_incidence has it: see view compare.';
comment on view compare is
    'What changes from side a to side b, with 95 % intervals, over requests measured on both sides by one evaluation; each pair of sides stands twice, once each way.';
comment on column compare.differs is
    'method (one model of one study), model (one method), or settings (one model and method of two studies, as with C and without). Text.';
comment on column compare.study_a is 'Study of side a. Text.';
comment on column compare.model_a is 'Model of side a, by its name in the study. Text.';
comment on column compare.method_a is 'Method of side a. Text.';
comment on column compare.study_b is 'Study of side b. Text.';
comment on column compare.model_b is 'Model of side b, by its name in the study. Text.';
comment on column compare.method_b is 'Method of side b. Text.';
comment on column compare.quantity is
    'collapsed, a score or log10 of a ratio: log10_perplexity_ratio (by the rule''s measure), log10_relative_update_norm. Text.';
comment on column compare.statistic is
    'What stands for a side and for the difference: share, mean or median. Text.';
comment on column compare.n_pairs is
    'Requests where both sides have the quantity and are not both infinite. Count.';
comment on column compare.value_a is 'The statistic of side a over these requests. In the quantity''s unit.';
comment on column compare.value_b is 'The statistic of side b over these requests. In the quantity''s unit.';
comment on column compare.difference is
    'The statistic of b minus a, request by request; of log10 quantities the decimal logarithm of a factor. In the quantity''s unit.';
comment on column compare.low is
    'Lower end of the 95 % interval of the difference: Agresti-Min for shares, Student''s t for means, order statistics for medians. NULL = too few pairs: below 2 for a mean, 6 for a median.';
comment on column compare.high is 'Upper end of the same interval. NULL as low.';
comment on column compare.study_id_a is 'Study of side a: studies.study_id.';
comment on column compare.study_id_b is 'Study of side b: studies.study_id.';
