"""Forecast of collapse: bounds on an edit's effect, verdicts, and the guard's decisions.

Bounds from keys and second moment (torch), verdicts and the guard's decisions (plain Python). Edits
are made in ``rome``.
"""
