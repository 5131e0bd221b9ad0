"""Whose turn it is at a media host: a slow one holds so many of the relay's workers, and no more.

A post waits a moment for its turn and is put off then, at no attempt. Who waited in vain speaks for those that come
next: while all turns are taken they don't wait at all.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import anyio

from publisher.errors import MediaBusy

WAIT_SECONDS = 2.0
BUSY_SECONDS = 15.0


@dataclass(eq=False)
class _Host:
    limiter: anyio.CapacityLimiter
    busy_until: float = 0.0


@dataclass(slots=True)
class Turns:
    """So many posts at once at each host; a host is forgotten when nobody is there."""

    count: int
    _hosts: WeakValueDictionary[str, _Host] = field(default_factory=WeakValueDictionary)

    @asynccontextmanager
    async def take(self, hosts: Collection[str]) -> AsyncIterator[None]:
        """Have a turn at each of some hosts for as long as the block lasts. Raises MediaBusy."""
        async with AsyncExitStack() as taken:
            for name in sorted(hosts):
                host = self._hosts.get(name)
                if host is None:
                    host = self._hosts[name] = _Host(anyio.CapacityLimiter(self.count))
                await _take(host)
                taken.callback(host.limiter.release)
            yield


async def _take(host: _Host) -> None:
    try:
        if host.limiter.available_tokens > 0 or time.monotonic() >= host.busy_until:
            with anyio.fail_after(WAIT_SECONDS):
                return await host.limiter.acquire()
    except TimeoutError:
        host.busy_until = time.monotonic() + BUSY_SECONDS
    raise MediaBusy("expected a turn at the media host, found it busy with other posts for long", BUSY_SECONDS)
