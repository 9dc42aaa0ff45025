"""What surrounds a flow run: Prefect's settings, what its page shows, and its command's terminal.

Not here: the flows themselves, and the registration of deployments (``flows.deploy``).
"""
