-- Which columns of views have no comment, and which comment do all table columns of their name have?
with columns as (
    select
        table_name,
        column_name,
        comment,
        table_name in (select view_name from duckdb_views()) as of_view
    from duckdb_columns()
    where database_name = current_database() and not internal
        and not list_contains($others, table_name)
)
select bare.table_name, bare.column_name, min(known.comment) as comment
from columns as bare
inner join columns as known on known.column_name = bare.column_name and not known.of_view
where bare.of_view and bare.comment is null
group by bare.table_name, bare.column_name
having count(distinct known.comment) = 1
