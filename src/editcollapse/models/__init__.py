"""Models from disk: files without torch, tokenization, loading, packed matrices.

Which families are known is a row of ``catalog.architectures``.
"""
