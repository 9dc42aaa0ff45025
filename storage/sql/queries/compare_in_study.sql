-- What changes from the study's first method to its others, and from its first model to its others?
select
    differs,
    model_a,
    method_a,
    model_b,
    method_b,
    quantity,
    n_pairs,
    value_a,
    value_b,
    difference,
    low,
    high
from compare(threshold := $threshold, ratio := $ratio, measure := $measure, kinds := null) as compare
inner join studies on studies.study_id = compare.study_id_a
where studies.study_id = $study_id
    and study_id_b = study_id_a
    and quantity in ('collapsed', 'efficacy', 'locality', 'log10_perplexity_ratio')
    and case differs
        when 'method' then method_a = (settings ->> '$.methods[0]')
        else model_a = (settings ->> '$.models[0].name')
    end
order by
    differs, model_order($study_id, model_a), model_a, method_order(method_a), method_a,
    model_order($study_id, model_b), model_b, method_order(method_b), method_b, quantity
