"""Result tables: one frozen dataclass a table, and the collapse rule; loads no torch.

SQL and DuckDB are in the storage package.
"""
