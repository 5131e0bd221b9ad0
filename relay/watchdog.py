"""The last resort: ends a process whose lease is over and whose work is not.

What ends an incarnation is a cancellation, and two things can swallow it: a handler that blocks the event loop, and
one (or a half-open socket below one) that catches what it should let pass. Such a process holds nothing any more, for
other relays took its lanes when the lease ended; but it would never work again. It ends itself, and whoever runs it
starts it anew. The event at fault has killed a relay by that, and is counted.

A thread watches, for the event loop may be what hangs. It counts how long it sees no sign of life, tick by tick: a
process that was stopped, or whose machine slept, has missed nothing.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import anyio
import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger()

EXIT_STATUS = 70
"""EX_SOFTWARE of sysexits.h."""

_BEAT_SECONDS = 0.5
_TICK_SECONDS = 1.0
_LAST_WORDS_SECONDS = 2.0


@dataclass(slots=True)
class Silence:
    """How long nothing was heard, by somebody who may have been asleep. No I/O.

    Attributes:
        seconds: So long without a beat is too long.
    """

    seconds: float
    _beats: int = -1
    _silent_seconds: float = 0
    _looked_at: float | None = None

    def is_too_long(self, now: float, beats: int) -> bool:
        """Look at a count of beats; of the time since the last look no more than two ticks were listened to."""
        elapsed = 0.0 if self._looked_at is None else now - self._looked_at
        self._looked_at = now
        if beats != self._beats:
            self._beats, self._silent_seconds = beats, 0.0
            return False
        self._silent_seconds += min(elapsed, 2 * _TICK_SECONDS)
        return self._silent_seconds >= self.seconds


@dataclass(slots=True)
class Watchdog:
    """Ends the process unless a task of its own runs, and finds the work well, at least every so many seconds.

    Attributes:
        seconds: For so long the event loop may stand still, or the work outlive its lease.
        is_stuck: Tells whether work goes on without a lease.
    """

    seconds: float
    is_stuck: Callable[[], bool] = lambda: False
    _turns: int = 0
    _beats: int = 0
    _is_over: threading.Event = field(default_factory=threading.Event)

    async def run(self) -> None:
        """Watch until `close` is called; cancelled before, it goes on in its thread: what ends must come to an end."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        while True:
            self._turns += 1
            if not self.is_stuck():
                self._beats += 1
            await anyio.sleep(_BEAT_SECONDS)

    def close(self) -> None:
        """All is over, in good order."""
        self._is_over.set()

    def _watch(self) -> None:
        silence = Silence(self.seconds)
        turns = 0
        while not self._is_over.wait(_TICK_SECONDS):
            if silence.is_too_long(monotonic(), self._beats):
                # In another thread: what blocks the process may be that nobody reads its log.
                last_words = threading.Thread(target=self._tell, args=(self._turns != turns,), daemon=True)
                last_words.start()
                last_words.join(_LAST_WORDS_SECONDS)
                os._exit(EXIT_STATUS)
            turns = self._turns

    def _tell(self, loop_runs: bool) -> None:
        log.critical(
            "relay.hung",
            reason="its lease is over, and its work does not end" if loop_runs else "the event loop stands still",
            seconds=self.seconds,
            at=None if loop_runs else _where_main_thread_is(),
            next="ends the process, to be started anew",
        )


def _where_main_thread_is() -> str:
    """Module, line and function, without any value."""
    frame = sys._current_frames()[threading.main_thread().ident or 0]  # noqa: SLF001 (documented, for this)
    return f"{frame.f_globals.get('__name__', '?')}:{frame.f_lineno} {frame.f_code.co_name}"
