"""Prefect's settings for a run from the command line, arranged before Prefect is imported.

Without a configured server, Prefect starts a temporary one; its home then lies in the results
folder, so that everything a study writes lies there. A configured server is left as it is.
"""

import contextlib
import os
import signal
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from editcollapse.errors import ResultsError
from editcollapse.runtime.settings import variable_name

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""
_TERMINAL = {
    "DO_NOT_TRACK": "1",
    # Not settings but words of Prefect's logging.yml, which no file of settings can hold. The
    # terminal shows a progress bar and warnings; the run page has the whole log. A level has to be
    # a name: with a number Prefect configures no logging at all and does not say so.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
    "PREFECT_LOGGING_ROOT_LEVEL": "INFO",
    # A line "Finished in state Cached" for every task would hide what the tasks themselves say.
    "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "WARNING",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
}
_HOME = "prefect"
_OWNER = variable_name("run")
"""Variable that tells which run a temporary server belongs to."""
_STARTED = 19
"""Place of a process's start time in /proc/PID/stat, counted behind its name."""


def prepare(results: Path) -> str:
    """Set this process's environment for Prefect; return in words which server will be used.

    What the user has set stays.

    Raises:
        ResultsError: the results folder cannot be made or written.
    """
    url = prepare_for_server()
    if url:
        return f"Prefect server at {url}"
    home = results / _HOME
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):  # a name of its own: others start here as well
            pass
    except OSError as error:
        raise ResultsError(
            f"cannot write to the results folder {results}: {error.strerror}. "
            "Choose another with --results."
        ) from error
    os.environ["PREFECT_HOME"] = str(home)
    os.environ[_OWNER] = _identity(os.getpid())
    stop_orphans(home)
    return "a temporary Prefect server"


def prepare_for_server() -> str | None:
    """Set what has defaults; return the API URL of the server that the user has configured."""
    for name, value in [*project_settings(), *_TERMINAL.items()]:
        os.environ.setdefault(name, value)
    return os.environ.get("PREFECT_API_URL") or _profile_url()


def project_settings() -> Iterator[tuple[str, str]]:
    """Yield the Prefect settings of pyproject.toml as variables of the environment.

    Prefect reads that file in the working directory alone, and a command may be started elsewhere.
    """
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    yield from _variables("PREFECT", content["tool"]["prefect"])


def _variables(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _variables(f"{name}_{key.upper()}", inner)
    else:
        yield name, str(value)


def _profile_url() -> str | None:
    """Return the API URL of the user's active Prefect profile, if it names one."""
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    try:
        profiles = tomllib.loads((home / "profiles.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return None
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active")
    url = profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    return str(url) if url else None


def stop_orphans(home: Path) -> int:
    """Stop temporary servers of this home whose run was killed; return how many.

    A run killed with ``kill -9`` cannot stop its server. Linux only: elsewhere nothing is found.
    """
    stopped = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = dict(
                pair.split("=", 1)
                for pair in (entry / "environ").read_bytes().decode(errors="replace").split("\0")
                if "=" in pair
            )
        except OSError:
            continue
        ours = variables.get("PREFECT_HOME") == str(home)
        temporary = variables.get("PREFECT__SERVER_EPHEMERAL") == "1"
        owner = variables.get(_OWNER, "")
        if ours and temporary and owner and owner != _identity(int(owner.split("-")[0])):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(entry.name), signal.SIGTERM)
                stopped += 1
    return stopped


def _identity(pid: int) -> str:
    """Return a process's number and start time, which no other process has; 0 where it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"{pid}-0"
    return f"{pid}-{text.rpartition(')')[2].split()[_STARTED]}"
