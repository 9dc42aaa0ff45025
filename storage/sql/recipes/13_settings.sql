-- With which settings was a study run?
-- `settings` is the study as it was asked, as JSON.
select
    name,
    settings ->> '$.methods' as methods,
    settings ->> '$.templates.kind' as templates,
    settings ->> '$.covariance.n_tokens' as covariance_tokens,
    seed,
    numerics
from studies
order by all
