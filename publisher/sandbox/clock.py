"""The sandbox's time: the wall clock, moved ahead on request."""

from __future__ import annotations

import time


class Clock:
    """Unix seconds by which containers expire, quotas roll and stories end."""

    __slots__ = ("_ahead_seconds",)

    def __init__(self) -> None:
        self._ahead_seconds = 0.0

    @property
    def ahead_seconds(self) -> float:
        """How far this clock is ahead of the wall clock."""
        return self._ahead_seconds

    def now(self) -> float:
        """Return the current instant in unix seconds."""
        return time.time() + self._ahead_seconds

    def advance(self, seconds: float) -> None:
        """Move the clock ahead; it never goes back, but for `reset`."""
        self._ahead_seconds += seconds

    def reset(self) -> None:
        """Go back to the wall clock."""
        self._ahead_seconds = 0.0
