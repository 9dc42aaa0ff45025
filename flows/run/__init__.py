"""Parts of flows: the pass through a study's plan, and the submission of its jobs.

The flows themselves are the files of the folder above; what a user types is in ``flows.cli``.
"""
