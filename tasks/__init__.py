"""Prefect tasks: each a few lines around one function of ``editcollapse``.

A task travels to a worker by value and what it calls travels by name, so these modules refer to
installed packages only and import torch inside the task: a cached run never pays for it.
"""
