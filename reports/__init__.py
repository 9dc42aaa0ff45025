"""Reports of a study: HTML, Markdown, tables and figures.

Texts of datasets, models and study files are untrusted: ``text`` is where they are made plain.
"""
