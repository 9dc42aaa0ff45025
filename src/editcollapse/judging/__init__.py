"""Is an edited model still alive? Any model against the one that it was made from.

Here: what an edited model is given as, how its weights differ, what that changes on text, and what
both models say. Not here: edits of our own (``rome``, ``editors``), and jobs (``units``).
"""
