"""From a study file to jobs, keys and files; loads no torch.

What is to be computed, under which key, and where its files lie. Nothing is computed here:
``units`` does that.
"""
