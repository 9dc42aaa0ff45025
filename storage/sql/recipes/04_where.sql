-- Where is the subject in the prompts that collapse?
-- Positions as columns: DuckDB's `pivot`.
pivot (select model, method, subject_position, n_collapsed from collapse_incidence)
on subject_position in ('first_token', 'first_several', 'inside')
using sum(n_collapsed)
order by model, method
