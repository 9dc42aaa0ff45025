"""Files that users bring: edit requests, texts, corpora; loads no torch.

Every rejected record is explained. Results and their rows are in ``rows`` and ``study``.
"""
