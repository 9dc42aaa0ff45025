"""The command line of the project: ``editcollapse``, or ``python -m flows``.

In here: each command's options, and in output/ what it prints. Not in here: what
the commands compute (flows/, tasks/, the library), and the wheel's own commands (editcollapse.cli).
"""
