"""Evaluation of edited models: perplexity, probes and their scores.

Many independently edited models are measured in one forward; no weight is written. Forecasts, which
need no edit, are in ``forecast``.
"""
