"""The results database: row files are the store, ``results.duckdb`` is built from them for readers.

``publish`` builds it, ``ask`` and ``readers`` read it, ``archive`` and ``garbage`` keep a results
folder in order; SQL stands in ``sql/``. Nothing here imports torch, transformers or Prefect.
"""
