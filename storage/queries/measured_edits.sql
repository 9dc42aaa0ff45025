-- What does counting collapses need of each measured edit?
insert into measured_edits by name
select
    study,
    study_id,
    model,
    method,
    dataset,
    subject_position,
    perplexity,
    perplexity_before
from edit_outcomes
where perplexity is not null
order by study_id, model, method, subject_position
