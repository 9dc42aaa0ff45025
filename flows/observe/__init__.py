"""Prefect settings of a flow run, its page, and the private names of Prefect that they need.

Not here: the flows themselves, and the registration of deployments (``flows.deploy``).
"""
