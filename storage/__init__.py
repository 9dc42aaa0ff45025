"""The results database: row files in, one DuckDB store, a published snapshot that anyone may read.

Doors: ``writer.ingest``, ``database.publish_snapshot``, ``rebuild.rebuild`` to write;
``queries.ask``, ``queries.describe_tables``, ``queries.incidence`` to read. Nothing here imports
torch, transformers or Prefect.
"""
