"""Prefect's log of trouble that repeats itself: one line for each cause, not some for each task."""

import logging

logger = logging.getLogger(__name__)

_RECORD = "An error was encountered while committing transaction"
_EVENT = "Service 'EventsWorker' failed to process item"
_CONNECTION = "Unable to connect to 'ws"


class OncePerCause(logging.Filter):
    """Lets the first record of a kind pass and keeps the others back; run pages have all."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a log record says something that has not been said."""
        message = record.getMessage()
        error = record.exc_info[1] if record.exc_info else None
        if message.startswith(_EVENT):  # a page for each event; the line before it says why
            return False
        if message.startswith(_CONNECTION):
            return self._is_first(_CONNECTION)
        if message.startswith(_RECORD) and isinstance(error, OSError):
            reason = error.strerror or str(error)
            if self._is_first(reason):
                logger.warning(
                    "Prefect cannot keep records of finished units: %s. The results are complete; "
                    "a later run may compute units again. Free space, or check the folder "
                    "'records'.",
                    reason,
                )
            return False
        return True

    def _is_first(self, cause: str) -> bool:
        is_first = cause not in self._told
        self._told.add(cause)
        return is_first
