"""The result tables: a frozen type for each row, and the rule that calls an edit a collapse.

Nothing here computes a row, and nothing reads or writes a file.
"""
