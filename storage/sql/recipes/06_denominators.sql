-- Is it the denominator? Edits that collapse against those that do not.
-- `denominators` has quartiles of six quantities, by position and outcome; here of two, for ROME.
select model, subject_position, outcome, quantity, n, minimum, median, maximum
from denominators
where method = 'rome'
    and quantity in ('abs_denominator', 'numerator_norm')
    and model = 'gpt2-induced'
order by quantity, outcome, subject_position
