-- How well does the change of the layer's output on text order the damage, bounded and exact?
-- Spearman's rank correlations, ties sharing their rank; of all kinds of studies.
create view change_and_damage as
with spread as (
    select
        study,
        study_id,
        model,
        model_place,
        unnest([method, '(all)']) as method,
        text_change_bound as bound,
        text_change as change,
        perplexity_ratio as damage
    from main.forecast_outcomes
),
ranked as (
    select
        *,
        rank() over (partition by study_id, model, method order by bound)
        + (count(*) over (partition by study_id, model, method, bound) - 1) / 2.0 as bound_place,
        rank() over (partition by study_id, model, method order by change)
        + (count(*) over (partition by study_id, model, method, change) - 1) / 2.0 as change_place,
        rank() over (partition by study_id, model, method order by damage)
        + (count(*) over (partition by study_id, model, method, damage) - 1) / 2.0 as damage_place
    from spread
)
select
    study,
    study_id,
    model,
    method,
    count(*) as n_edits,
    corr(bound_place, damage_place) as bound_spearman,
    case when count(change) = count(*) then corr(change_place, damage_place) end as change_spearman
from ranked
group by study, study_id, model, model_place, method
order by study, study_id, model_place, model, main.method_order(method), method;

comment on view change_and_damage is
    'Rank correlations of the perplexity ratio with the bound on the change of the layer''s output on text, known before an edit is made, and with the change itself, known without any evaluation; by study, model and method; (all) takes methods together.';
comment on column change_and_damage.study_id is 'Study: studies.study_id.';
comment on column change_and_damage.n_edits is 'Edits that were forecast, made and measured. Count.';
comment on column change_and_damage.bound_spearman is
    'Spearman''s correlation of forecasts.text_change_bound and perplexity_ratio. -1 to 1. NULL = fewer than two edits.';
comment on column change_and_damage.change_spearman is
    'Spearman''s correlation of edits.text_change and perplexity_ratio. -1 to 1. NULL = fewer than two edits, or some were made by an earlier version.';
