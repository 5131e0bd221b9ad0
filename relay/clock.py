"""The database's clock, as well as a relay can know it between two round trips."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class DatabaseClock:
    """Tells the database's time from `time.monotonic()`; the machine's own clock is never asked."""

    _offset: float = 0

    def now(self) -> float:
        """Return the database's time, in seconds of the epoch; a round trip's latency behind it at most."""
        return self.at(time.monotonic())

    def at(self, instant: float) -> float:
        """Return the database's time at an instant by `time.monotonic()`."""
        return instant + self._offset

    def read(self, database_now: float) -> None:
        """Take over a reading that has just arrived."""
        self._offset = database_now - time.monotonic()
