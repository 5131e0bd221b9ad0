"""A circuit breaker for each host: while a host fails by itself, it is not called. Pure, with a clock that is given.

    closed ── a burst of failures ──▶ open ── the pause is over ──▶ probing ── an answer ──▶ closed
                                       ▲                              │
                                       └── no answer, twice the pause ┘

A failure is a time-out, a reset, a 5xx or HTML: what no account and no content is to blame for. Any answer of Graph,
an error too, shows that the host works. While it is open nothing is sent, so that no attempt is used up for a
platform that is down, and a platform that comes back is not run over: one call goes first.

Our own, because those for asyncio (purgatory, aiobreaker) count failures in a row however far apart, let every call
through when the pause is over, and don't say how long it lasts, which is what a deferral needs.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

WINDOW_SECONDS = 30.0
PAUSE_SECONDS = (5.0, 60.0)
PROBE_SECONDS = 60.0


class Circuit(StrEnum):
    """Whether a host is called."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


@dataclass(slots=True)
class Breaker:
    """The circuit of one host. Instants are seconds of one monotonic clock.

    Attributes:
        failures_max: So many failures within the window open it, where no answer came between them.
        pause_seconds: How long it stays open first, and at the longest.
        window_seconds: How far back failures count.
        probe_seconds: How long a probe may take before it counts as lost.
    """

    failures_max: int
    pause_seconds: tuple[float, float] = PAUSE_SECONDS
    window_seconds: float = WINDOW_SECONDS
    probe_seconds: float = PROBE_SECONDS
    state: Circuit = Circuit.CLOSED
    _failed_at: deque[float] = field(default_factory=deque)
    _probes: int = 0
    _until: float = 0.0

    def admit(self, now: float) -> float:
        """Return 0 where a call may be made, whose end must then be told to one of those below; else how long not."""
        match self.state:
            case Circuit.CLOSED:
                return 0.0
            case Circuit.OPEN | Circuit.PROBING if now < self._until:
                # A probe is mostly answered soon, and then all may go on.
                longest = math.inf if self.state is Circuit.OPEN else self.pause_seconds[0]
                return min(self._until - now, longest)
            case Circuit.OPEN | Circuit.PROBING:
                self.state = Circuit.PROBING
                self._until = now + self.probe_seconds
                return 0.0
            case _:
                assert_never(self.state)

    def answered(self) -> bool:
        """Note that the host answered; returns whether that closed it."""
        was_closed = self.state is Circuit.CLOSED
        self.state = Circuit.CLOSED
        self._failed_at.clear()
        self._probes = 0
        return not was_closed

    def failed(self, now: float) -> bool:
        """Note a call that the host failed; returns whether that opened it, which a probe's failure does not."""
        match self.state:
            case Circuit.OPEN:
                return False  # a call that was under way when it opened
            case Circuit.PROBING:
                self._probes += 1
                self._open(now)
                return False
            case Circuit.CLOSED:
                self._failed_at.append(now)
                while self._failed_at[0] <= now - self.window_seconds:
                    self._failed_at.popleft()
                if len(self._failed_at) < self.failures_max:
                    return False
                self._open(now)
                return True
            case _:
                assert_never(self.state)

    def told_nothing(self, now: float) -> None:
        """Note a call that ended without a word on the host: where it was a probe, another one may follow at once."""
        if self.state is Circuit.PROBING:
            self._until = now

    def _open(self, now: float) -> None:
        self.state = Circuit.OPEN
        self._failed_at.clear()
        first, longest = self.pause_seconds
        self._until = now + min(first * 2.0 ** min(self._probes, 32), longest)
