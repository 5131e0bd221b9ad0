"""A relay under measurement: `python -m relay.bench.relay_program`, an order on stdin, reports on stdout.

It tells when it is ready, how far it has come, and what it cost from the first dispatch to the last receipt, and ends
when its stdin is closed.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import anyio
import orjson

from outbox.event import LANE_COUNT, Event
from outbox.handler import Handler, Runtime
from outbox.ledger import Ledger
from outbox.outcome import Outcome, Published
from relay import app, logs
from relay.bench.readings import READ_WAL
from relay.bench.relay_process import CALL, EVENT_TYPE, SLOW_EVENT_TYPE, Mark, Order
from relay.settings import RelaySettings
from relay.tracing import flush, open_traces

TELL_SECONDS: Final = 0.1
TELL_AT_REST_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.002
SLOW_SECONDS: Final = 0.05
STDIN: Final = 0

_PUBLISHED: Final = Published()


def main() -> None:
    """Obey the order on stdin."""
    order = Order(**orjson.loads(_read_line()))
    # A handler that does nothing shows the relay's own ceiling; an installed one, a relay as people run it.
    logs.configure("json", "warning" if order.event_type == EVENT_TYPE else "info")
    with open_traces("otlp" if order.is_traced else "off"):
        anyio.run(run, order, backend_options={"use_uvloop": find_spec("uvloop") is not None})


async def run(order: Order) -> None:
    """Run a relay until stdin is closed."""
    # Settings come from the order alone: whoever starts this leaves ours out of its environment.
    given: dict[str, object] = {"dsn": order.dsn, "metrics_port": 0, "concurrency": order.concurrency}
    if order.lease_seconds is not None:
        given["lease_seconds"] = order.lease_seconds
    settings = RelaySettings.model_validate(given)
    app.collect_seldom()
    stop = anyio.Event()
    meter = Meter(order)
    async with app.serve(settings, stop, factories={order.event_type: meter.open, SLOW_EVENT_TYPE: open_slow}):
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(meter.watch)
                await anyio.wait_readable(STDIN)
                group.cancel_scope.cancel()
            await meter.end()
        finally:
            stop.set()
    tell(what="ended", dispatches=meter.dispatches)


@dataclass(slots=True)
class Meter:
    """A handler, and what there is to tell of it: one that does nothing, or an installed one with a count."""

    order: Order
    handled_count: int = 0
    dispatches: list[tuple[int, float]] = field(default_factory=list)
    _runtime: Runtime | None = None
    _began: Mark | None = None
    _is_open: bool = False
    _has_ended: bool = False
    _opened: anyio.Event | None = None
    _started_at: float = field(default_factory=time.monotonic)
    _all_handled: anyio.Event = field(default_factory=anyio.Event)
    _calls: int | None = None

    def __post_init__(self) -> None:
        if self.order.calls is not None:
            self._calls = os.open(self.order.calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @asynccontextmanager
    async def open(self, runtime: Runtime) -> AsyncIterator[Handler]:
        """Open the handler: a `HandlerFactory`."""
        self._runtime = runtime
        if self.order.event_type == EVENT_TYPE:
            yield self.handle
            return
        async with app.installed_factories()[self.order.event_type](runtime) as handler:
            yield partial(self.observe, handler)

    async def handle(self, event: Event, _ledger: Ledger) -> Outcome:
        """Do nothing."""
        now = time.monotonic() if self.order.notes_dispatches else 0.0
        if not self._is_open:
            await self._begin()
        self._count()
        if self.order.notes_dispatches:
            self.dispatches.append((event.id, now))
        if self._calls is not None:
            os.write(self._calls, CALL.pack(event.id, time.time()))
        return _PUBLISHED

    async def observe(self, handler: Handler, event: Event, ledger: Ledger) -> Outcome:
        """Call a handler, and count what it published."""
        if not self._is_open:
            await self._begin()
        outcome = await handler(event, ledger)
        if isinstance(outcome, Published):
            self._count()
        return outcome

    async def watch(self) -> None:
        """Tell when the relay is ready, how far it has come, and when all has a receipt."""
        while self._value("outbox_lanes_owned") < LANE_COUNT or not self._value("outbox_listener_connected"):  # noqa: ASYNC110 (metrics wake nobody)
            await anyio.sleep(POLL_SECONDS)
        tell(what="ready")
        told = -1
        while not self._all_handled.is_set():
            # At rest a report costs more than all else that a relay does.
            rests = self.handled_count == told
            with anyio.move_on_after(TELL_AT_REST_SECONDS if rests else TELL_SECONDS):
                await self._all_handled.wait()
            told = self.handled_count
            tell(what="progress", count=told)
        while self._settled_count() < self.handled_count:  # noqa: ASYNC110 (metrics wake nobody)
            await anyio.sleep(POLL_SECONDS)
        if self.order.is_traced:
            await anyio.to_thread.run_sync(flush)
        await self.end()

    async def end(self) -> None:
        """Tell what it cost until now, unless that was told."""
        if self._began is not None and not self._has_ended:
            self._has_ended = True
            ended = await self._mark()
            tell(what="done", count=self.handled_count, started_at=self._started_at, began=self._began, ended=ended)

    def _count(self) -> None:
        self.handled_count += 1
        if self.handled_count == self.order.count:
            self._all_handled.set()

    async def _begin(self) -> None:
        """Note where everything stood at the first dispatch; whoever comes meanwhile waits a round trip for it."""
        if self._opened is None:
            self._opened = anyio.Event()
            self._began = await self._mark()
            self._is_open = True
            self._opened.set()
        else:
            await self._opened.wait()

    async def _mark(self) -> Mark:
        at, cpu_seconds = time.monotonic(), time.process_time()
        assert self._runtime is not None
        async with self._runtime.connections.connection() as connection:
            row = await (await connection.execute(READ_WAL)).fetchone()
        assert row is not None
        return Mark(at, cpu_seconds, row[0], _peak_memory_bytes())

    def _settled_count(self) -> float:
        return self._value("outbox_events_settled_total", type=self.order.event_type, outcome="published")

    def _value(self, name: str, **labels: str) -> float:
        assert self._runtime is not None
        return self._runtime.registry.get_sample_value(name, labels) or 0


@asynccontextmanager
async def open_slow(_runtime: Runtime) -> AsyncIterator[Handler]:
    """Open a handler that takes its time: a `HandlerFactory`."""

    async def handle(_event: Event, _ledger: Ledger) -> Outcome:
        await anyio.sleep(SLOW_SECONDS)
        return _PUBLISHED

    yield handle


def tell(**report: object) -> None:
    """Print a report as a line of JSON."""
    sys.stdout.write(f"{orjson.dumps(report).decode()}\n")
    sys.stdout.flush()


def _peak_memory_bytes() -> int:
    """Return the most memory that this program has had.

    From /proc where there is one: across exec `ru_maxrss` keeps the peak of the process that this one was forked from.
    """
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: in bytes


def _read_line() -> bytes:
    """Read the order, and nothing that comes after it."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(STDIN, 1)
        if not part:
            sys.exit(1)
        line += part
    return line


if __name__ == "__main__":
    main()
