-- How many of the flagged edits collapsed, and how many of the collapsed were flagged?
select
    model,
    method,
    n_edits,
    n_collapsed,
    auc,
    at_risk_at,
    n_flagged,
    precision,
    precision_low,
    precision_high,
    recall,
    recall_low,
    recall_high,
    collapse_at,
    n_certain,
    certain_precision,
    certain_precision_low,
    certain_precision_high,
    certain_recall,
    certain_recall_low,
    certain_recall_high,
    brier,
    bound_spearman,
    change_spearman
from
    forecast_skill(
        threshold := $threshold, ratio := $ratio, measure := $measure, kinds := null
    ) as skill
left join (select study_id, model, method, bound_spearman, change_spearman from change_and_damage)
    using (study_id, model, method)
where study_id = $study_id and method <> '(all)'
order by model = '(all)', model_order($study_id, model), model, method_order(method), method
