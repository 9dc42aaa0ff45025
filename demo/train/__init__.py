"""Training of the demo models and their data: a synthetic corpus, tokenizers, training.

Not part of the wheel: who edits models needs the models, not their training.
"""
