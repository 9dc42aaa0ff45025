-- The trials of one tuning, in the order in which they were made.
select * from tuning_trials
where tuning_id = $tuning_id
order by rung, trial, method
