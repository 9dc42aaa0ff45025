-- Is it the first position? Keys of first-token subjects of real LLMs, beside those of other subjects.
-- `first_tokens_with_group`: of prompts with the subject elsewhere, the share of first tokens whose key lies with those subjects' bare
-- keys; `one_prefix_with_others`: of those subjects, the share whose key behind a prefix lies with all others.
select
    model,
    layer,
    max(value) filter (where observation = 'denominator_ratio') as denominator_ratio,
    max(value) filter (where observation = 'first_tokens_with_group') as first_tokens_with_group,
    max(value) filter (where observation = 'one_prefix_with_others') as one_prefix_with_others
from anatomy
where study in ('real', 'real_layers') and grouping = 'first_token'
group by model, layer
order by model like '%-bos%', layer
