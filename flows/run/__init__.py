"""What flows are made of: the pass through a study's plan, and how its jobs are submitted.

The flows themselves are the files of the folder above; what a user types is in ``flows.cli``.
"""
