"""How long to wait before a retry: bounded exponential backoff with full jitter.

Full jitter spreads retries over the whole interval, so that what failed together does not come back together
(Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Backoff:
    """The delay before the n-th retry is uniform in [0, min(cap, base * 2^(n-1))] seconds."""

    base_seconds: float
    cap_seconds: float

    def upper_seconds(self, attempts: int) -> float:
        """Return the longest delay after so many failed attempts, at least 1."""
        # 2^63 seconds are above any cap; the exponent is bounded before it overflows a float.
        return min(self.cap_seconds, self.base_seconds * 2.0 ** min(attempts - 1, 63))

    def delay_seconds(self, attempts: int, random: Random) -> float:
        """Draw the delay after so many failed attempts."""
        return random.uniform(0, self.upper_seconds(attempts))
