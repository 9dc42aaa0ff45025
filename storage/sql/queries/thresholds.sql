-- Which thresholds do verdicts on a model's edits use: those of its newest calibration by a rule of
-- collapse that is named (or by whichever rule, with $any_rule), or the default?
with own as (
    select *
    from forecast_calibrations
    where model_id = $model_id
        and (
            $any_rule
            or (
                collapse_threshold is not distinct from $threshold::double
                and collapse_ratio is not distinct from $ratio::double
                and coalesce(collapse_measure, 'mean') = $measure
            )
        )
    order by calibrated_at desc, calibration_id
    limit 1
)
select
    at_risk_at,
    collapse_at,
    calibration_id,
    n_edits,
    n_collapsed,
    never_safe_from,
    intercept,
    slope,
    intercepts,
    slopes
from own
