"""Processes that a command starts, watches, and ends with itself."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

_GRACE_S = 20.0
"""A worker waits for its runs to end, a server for its database."""
_LINES = 15


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """What a process is started from."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path


class ChildProcess:
    """A running program, in a session of its own: a Ctrl-C reaches its parent alone.

    Args:
        program: what to start; its output goes to its log.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.started_at = time.monotonic()
        with program.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  our own commands
                program.command,
                env=dict(program.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def status(self) -> int | None:
        """Exit status; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """End it and all that it has started: asked first, killed where that does not help.

        A worker takes the first SIGTERM as a Ctrl-C and the second as an order.
        """
        for _ in range(2):
            if self.status is None:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_GRACE_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def last_words(self) -> str:
        """Return the end of its log."""
        text = self.program.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-_LINES:])
