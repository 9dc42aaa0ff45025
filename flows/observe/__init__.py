"""Prefect settings of a flow run, its page, and its command's terminal.

Not here: the flows themselves, and the registration of deployments (``flows.deploy``).
"""
