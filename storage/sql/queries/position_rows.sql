-- Where do subjects stand under one model's tokenizer?
select positions.*
from main.positions
where positions.model_id = $model_id
