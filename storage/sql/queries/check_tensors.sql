-- The tensors that differ in one check: block by block, then those outside.
select * from check_tensors
where check_id = $check_id
order by layer nulls last, tensor
