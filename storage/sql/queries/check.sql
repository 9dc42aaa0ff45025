-- One check, as it was measured.
select * from checks
where check_id = $check_id
