"""Prefect's log about records that it could not write: one line for each cause, not one a task."""

import logging

logger = logging.getLogger(__name__)

_BEGINS = "An error was encountered while committing transaction"


class OncePerCause(logging.Filter):
    """Lets the first record pass as a sentence and keeps the others back; the run page has all."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a log record says something else."""
        error = record.exc_info[1] if record.exc_info else None
        if not str(record.msg).startswith(_BEGINS) or not isinstance(error, OSError):
            return True
        reason = error.strerror or str(error)
        if reason not in self._told:
            self._told.add(reason)
            logger.warning(
                "Prefect cannot keep records of finished units: %s. The results are complete; a "
                "later run may compute units again. Free space, or check the folder 'records'.",
                reason,
            )
        return False
