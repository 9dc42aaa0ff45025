"""The long tests share the small study, the backend and the server of the flow tests."""

from tests.support.flow_fixtures import backend, first_run, results, run_study, server, study

__all__ = ["backend", "first_run", "results", "run_study", "server", "study"]
