"""Input data: edit requests, text sets, context templates and corpora.

Nothing here knows a model, a tokenizer or a study; nothing is computed and nothing is written.
"""
