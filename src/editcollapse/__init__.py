"""Measure how single model edits collapse a language model: the science, without Prefect or DuckDB.

Letters used for shapes in every docstring:
    B edits · P context templates · N texts or prompts · T tokens
    D d_model · K d_key · V vocabulary
"""

__version__ = "0.1.0"

NUMERICS = 1
"""Version of the numbers, part of every cache key; bumped when equal inputs give other numbers."""
