-- What can be asked: tables, views and macros, each with its columns, types and comments?
with relations as (
    select 'table' as kind, table_name as name, comment from duckdb_tables()
    where database_name = current_database() and not internal
    union all
    select 'view' as kind, view_name as name, comment from duckdb_views()
    where database_name = current_database() and not internal
),
columns as (
    select table_name as name, column_name, data_type, comment, column_index
    from duckdb_columns()
    where database_name = current_database() and not internal
),
macros as (
    select function_name as name, array_to_string(parameters, ', ') as arguments, comment
    from duckdb_functions()
    where database_name = current_database() and not internal
        and function_type in ('macro', 'table_macro')
),
everything as (
    select kind, name, null as "column", null as type, comment, 0 as place from relations
    union all
    select kind, name, column_name, data_type, columns.comment, column_index
    from relations inner join columns using (name)
    union all
    select 'macro', name, null, arguments, comment, 0 from macros
)
select kind, name, "column", type, comment
from everything
order by case kind when 'table' then 0 when 'view' then 1 else 2 end, name, place
