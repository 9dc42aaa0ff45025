-- What both models of one check answer, request by request.
select * from check_scores
where check_id = $check_id
order by request_id, side desc
