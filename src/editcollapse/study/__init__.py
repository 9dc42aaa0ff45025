"""From a study file to jobs, cache keys and files in the results folder; loads no torch.

What a job computes is not here (``units``), nor who runs it (``flows``) or stores its rows.
"""
