"""The command ``editcollapse``: what needs the library alone; in a checkout, the flows' commands.

Rich and Typer are imported here and nowhere else in the package.
"""
