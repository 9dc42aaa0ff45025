"""Registration of the project's deployments, their work pool and automations on a Prefect server.

Not here: what is registered (prefect.yaml and ``deploy/``), and the server itself (Procfile).
"""
