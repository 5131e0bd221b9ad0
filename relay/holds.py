"""Which accounts pause: a hold is on a key or on the whole app, until an instant."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Holds:
    """Which keys are held, and whether the app is; instants are of `time.monotonic()`."""

    app_until: float = -math.inf
    _keys: dict[str, float] = field(default_factory=dict)

    def hold(self, key: str | None, until: float) -> None:
        """Hold a key, or the app with None; a hold is never shortened."""
        if key is None:
            self.app_until = max(self.app_until, until)
        else:
            self._keys[key] = max(self._keys.get(key, -math.inf), until)

    def replace(self, holds: Iterable[tuple[str | None, float]]) -> None:
        """Take over the holds that are in force, and no others."""
        self.app_until = -math.inf
        self._keys.clear()
        for key, until in holds:
            self.hold(key, until)

    def until(self, key: str | None) -> float:
        """Return until when an event of a key is held; an instant of the past when it is not."""
        if key is None or not self._keys:
            return self.app_until
        return max(self.app_until, self._keys.get(key, -math.inf))
