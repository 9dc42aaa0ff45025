"""What a study's report says, and how it is written: HTML, Markdown, tables.

Texts of datasets, models and study files are untrusted: ``text`` is where they are made plain.
"""
