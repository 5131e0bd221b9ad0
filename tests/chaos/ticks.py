"""A handler of the suite's own, found among the entry points as any project's is.

Each call is written down in a table before the outcome: what was handled, when and by which process.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from outbox.event import Event
from outbox.handler import Handler, Runtime
from outbox.ledger import Ledger
from outbox.outcome import Defer, Outcome, Published, Reason, Retry

EVENT_TYPE = "chaos.tick"


@asynccontextmanager
async def open_handler(runtime: Runtime) -> AsyncIterator[Handler]:
    """Open the handler."""

    async def handle(event: Event, ledger: Ledger) -> Outcome:
        async with runtime.connections.connection() as connection:
            await connection.execute(
                "insert into public.handled (event_id, process) values (%s, %s)", [event.id, os.getpid()]
            )
        if ledger.attempts < event.payload["retries"]:
            return Retry("not yet")
        if ledger.deferrals < event.payload["deferrals"]:
            return Defer(0.05, Reason.PROCESSING)
        return Published()

    yield handle


def install(folder: Path) -> None:
    """Write into a folder of `sys.path` what makes the handler that of an installed project."""
    metadata = folder / "chaos_ticks-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: chaos-ticks\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        f"[outbox_relay.handlers]\n{EVENT_TYPE} = {__name__}:{open_handler.__name__}\n"
    )
