"""Which accounts pause: a hold is on a key or on the whole app, until an instant."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Own:
    """A hold that this relay began; `written_at_look` is None until it is durable."""

    until: float
    written_at_look: int | None = None


@dataclass(slots=True)
class Holds:
    """The holds that are in force; a key of None is the whole app; instants are of `time.monotonic()`.

    What the database says counts, and what this relay decided, from the moment when it decides until a look at the
    database that began after the hold was durable.
    """

    _loaded: dict[str | None, float] = field(default_factory=dict)
    _own: dict[str | None, _Own] = field(default_factory=dict)
    _look: int = 0
    _taken_over: int = 0

    def hold(self, key: str | None, until: float) -> None:
        """Hold a key from now on; a hold is never shortened."""
        own = self._own.get(key)
        self._own[key] = _Own(until if own is None else max(until, own.until))

    def written(self, keys: Iterable[str | None]) -> None:
        """Take note that our holds on these keys are durable."""
        for key in keys:
            if key in self._own:
                self._own[key].written_at_look = self._look

    def begin_look(self) -> int:
        """Return the number of a look at the database that is about to begin."""
        self._look += 1
        return self._look

    def looked(self, look: int, found: Iterable[tuple[str | None, float]]) -> None:
        """Take over what a look found; ours that it could see are the database's now.

        A look that began before another one that was taken over sees nothing that the other one did not.
        """
        if look < self._taken_over:
            return
        self._taken_over = look
        self._loaded = dict(found)
        self._own = {
            key: own for key, own in self._own.items() if own.written_at_look is None or own.written_at_look >= look
        }

    def __bool__(self) -> bool:
        """Whether anything may be held."""
        return bool(self._loaded or self._own)

    def until(self, key: str | None) -> float:
        """Return until when an event of a key is held, by its own hold or the app's; of the past when it is not."""
        if not self:
            return -math.inf
        return max(self._of(None), self._of(key))

    def _of(self, key: str | None) -> float:
        own = self._own.get(key)
        return max(self._loaded.get(key, -math.inf), -math.inf if own is None else own.until)
