-- Which row files is this database made of, in the order in which they count?
select table_name, digest from row_files order by place
