-- Which thresholds do verdicts on a model's edits use: its own, or the default?
select at_risk_at, collapse_at, calibration_id, n_edits, n_collapsed, is_default
from forecast_thresholds
where model_id = $model_id or model_id is null
order by model_id nulls last
