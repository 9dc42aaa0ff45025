"""Why edits collapse: keys compared by kind, position and outcome.

Vectors, their projections, statistics with intervals, profiles by position. The jobs that call
these are in ``units.anatomy``.
"""
