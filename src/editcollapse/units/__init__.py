"""One function a job: a job in, a manifest of files and rows out.

Each function here is what one Prefect task runs, and runs without Prefect just as well. Nothing
here schedules, caches or stores rows: flows, ``study.locks`` and the storage package do.
"""
