"""What the project's commands print: answers, incidence, verdicts, a plan's outlook, what is next.

How tables and lines fit a terminal is in ``editcollapse.cli``; options and commands are beside.
"""
