-- What one check is called by somebody.
select * from check_names
where check_id = $check_id and name = $name
