-- How far may the text change in a sequence before perplexity grows?
-- Every checkpoint of a study's sequences, by model; the smallest change at which perplexity was so many times the unedited
-- model's. A guard of sequences stands at 1 where the study says nothing. Empty = never.
select
    study,
    model,
    count(*) as checkpoints,
    count(*) filter (where text_change < 1) as below_1,
    max(perplexity_ratio) filter (where text_change < 1) as largest_below_1,
    min(text_change) filter (where perplexity_ratio >= 2) as doubled_from,
    min(text_change) filter (where perplexity_ratio >= 3) as tripled_from,
    min(text_change) filter (where perplexity_ratio >= 10) as tenfold_from
from sequence_outcomes
group by study, model
order by study, model
