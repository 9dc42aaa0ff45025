-- What have others published, and what was measured here?
-- `published` has the figures that were seen at their source. In the demo study no model is one of theirs:
-- after a study of GPT-2 XL the last columns have its edits. How many there are:
select work, place, model, metric, published_value, unit, n_edits, median
from published_and_ours
where metric != 'gpu_memory'
order by work, place, figure_id
