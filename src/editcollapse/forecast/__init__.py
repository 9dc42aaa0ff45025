"""What an edit can do to a model at most, and what a guard makes of it.

Bounds from keys and second moment (torch), verdicts and the guard's decisions (plain Python). Edits
are made in ``rome``.
"""
