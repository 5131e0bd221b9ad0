"""Bytes of a media host on their way to Meta: whose failure it is when they stop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from publisher.errors import MediaUnreachable


@dataclass(slots=True)
class Forwarded:
    """A body that is sent on as it comes from its source. It is read once.

    Attributes:
        source: The bytes; they may end with MediaUnreachable.
    """

    source: AsyncIterator[bytes]
    _error: MediaUnreachable | None = None
    _is_awaited: bool = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the bytes."""
        self._is_awaited = True
        try:
            async for chunk in self.source:
                self._is_awaited = False
                yield chunk
                self._is_awaited = True
        except MediaUnreachable as error:
            self._error = error
            raise
        self._is_awaited = False

    def failure(self, *, is_late: bool) -> MediaUnreachable | None:
        """Return what the source is to blame for in a call that failed: it broke off, or was waited for at the end."""
        if self._error is None and is_late and self._is_awaited:
            why = "expected the rest of the file from the media host, found it too slow for one go"
            return MediaUnreachable(why, is_refusal=False)
        return self._error
