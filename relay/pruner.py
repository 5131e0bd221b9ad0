"""Deletes events that ended longer ago than the retention, now and then; one relay at a time does it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

import anyio
import psycopg
import structlog
from anyio.abc import TaskStatus

from outbox import database
from outbox.errors import OutboxError
from outbox.prune import BATCH, prune
from relay.redaction import redact
from relay.settings import RelaySettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(slots=True)
class Pruner:
    """Prunes at the start and then on a schedule, on a connection that is there only meanwhile.

    What goes wrong is told and tried again the next time: no event waits for it.

    Attributes:
        settings: The relay's.
    """

    settings: RelaySettings

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Prune until cancelled."""
        task_status.started()
        while self.settings.retention_days:
            try:
                await self._prune(timedelta(days=self.settings.retention_days))
            except (psycopg.Error, OutboxError) as error:
                log.warning("prune.failed", error=redact(" ".join(str(error).split())))
            await anyio.sleep(self.settings.prune_seconds)

    async def _prune(self, retention: timedelta) -> None:
        count = 0
        connection = await database.connect(self.settings.dsn.get_secret_value(), application_name="outbox-pruner")
        try:
            deleted: int | None = BATCH
            while deleted == BATCH:
                began_at = time.monotonic()
                deleted = await prune(connection, retention, wait=False)
                count += deleted or 0
                # Half of the time is for everybody else.
                await anyio.sleep(time.monotonic() - began_at)
        finally:
            await connection.close()  # not `async with`: cancelled amid a statement, it would stop at a rollback
        if count:
            log.info("events.pruned", count=count, retention_days=self.settings.retention_days)
