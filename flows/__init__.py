"""What Prefect schedules, and the command line: ``python -m flows``."""
