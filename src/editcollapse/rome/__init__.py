"""ROME and its family, to be read beside the papers: v*, updates, edited models.

Context templates, the optimisation of v*, the rank-one updates of all methods. How part of a model
is run fast is in ``forward``; C is in ``covariance``.
"""
