"""The study file: what it may say, and how it is read; loads no torch.

Published presets and methods, which a study names, are rows of ``catalog``.
"""
