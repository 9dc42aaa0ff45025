"""The long tests share the small study, the backend and the server of the flow tests."""

from tests.flows.conftest import backend, first_run, results, run_study, server, study

__all__ = ["backend", "first_run", "results", "run_study", "server", "study"]
