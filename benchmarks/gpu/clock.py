"""Time that a part has: works are left out, and said to be, when they would not fit any more."""

import time


class Clock:
    """Counts down.

    Args:
        seconds: that there are.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left, zero or more."""
        return max(0.0, self._end - time.monotonic())

    def share(self, of: float) -> "Clock":
        """Return a clock with a share of what is left."""
        return Clock(of * self.left)

    def fits(self, seconds: float) -> bool:
        """Return whether so many seconds are left."""
        return seconds <= self.left
