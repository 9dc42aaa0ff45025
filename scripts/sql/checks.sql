-- Which edited models were checked? By base, the largest change on text first.
select check_id, name
from check_outcomes
order by base, text_change desc nulls last, name
