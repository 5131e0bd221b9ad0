"""Bytes of a media host on their way to Meta: whose failure it is when they stop."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from publisher.errors import MediaUnreachable, Unfinished

# A host that has taken bytes in the last quarter of a call works: the file is only large.
FLOWING_SHARE = 0.25


@dataclass(slots=True)
class Forwarded:
    """A body that is sent on as it comes from its source. It is read once.

    Attributes:
        source: The bytes; they may end with MediaUnreachable.
    """

    source: AsyncIterator[bytes]
    _error: MediaUnreachable | None = None
    _is_awaited: bool = False
    _taken_at: float = -math.inf

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the bytes."""
        self._is_awaited = True
        try:
            async for chunk in self.source:
                self._is_awaited = False
                yield chunk
                self._is_awaited, self._taken_at = True, time.monotonic()
        except MediaUnreachable as error:
            self._error = error
            raise
        self._is_awaited = False

    def failure(self, late_seconds: float | None) -> MediaUnreachable | Unfinished | None:
        """Return what kept a call from its end that failed, where that was not Meta.

        Args:
            late_seconds: How long the call took where its time was over; None where it failed otherwise.
        """
        if self._error is not None or late_seconds is None:
            return self._error
        if self._is_awaited:
            why = "expected the rest of the file from the media host, found it too slow for one go"
            return MediaUnreachable(why, is_refusal=False)
        if time.monotonic() - self._taken_at < late_seconds * FLOWING_SHARE:
            return Unfinished(f"expected to send the video within {late_seconds:g} s, a part of it is left")
        return None
