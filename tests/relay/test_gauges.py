"""What only the database can tell is read beside the work, and never at its cost."""

from __future__ import annotations

import math

import anyio
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from outbox import lease
from outbox.database import connect
from relay.clock import DatabaseClock
from relay.doorbell import Doorbell
from relay.gauges import Gauges
from relay.metrics import RelayMetrics
from relay.reader import Reader
from relay.scheduler import Scheduler
from relay.spill import Spill
from tests.relay.running import Store, eventually, settings

pytestmark = pytest.mark.anyio


async def test_a_figure_that_takes_too_long_is_not_known_and_ends_nothing(database: str, store: Store) -> None:
    """Its statement is cancelled by the server; it is read again, and one line says so however often that happens."""
    relay_id = await lease.join(store, name="test", version="0", lease_seconds=60)
    registry = CollectorRegistry()
    metrics = RelayMetrics(registry, ["t"])
    clock = DatabaseClock()
    clock.read(0.0)
    usages: list[float] = []

    def holds() -> float | None:
        return registry.get_sample_value("outbox_holds", {"scope": "app", "reason": "operator"})

    async with (
        await connect(database, application_name="outbox-test") as connection,
        await connect(database, application_name="outbox-test") as locker,
    ):
        await connection.execute("set statement_timeout = '20ms'")
        doorbell = Doorbell(settings(database), locker, relay_id, metrics, set(), lambda: None, lambda: None)
        spill = Spill(locker, Scheduler(), lambda _: None, 1000, lambda: None, metrics)
        reader = Reader(locker, locker, 100, doorbell, lambda _: None, 1000, metrics, spill, lambda: False)
        gauges = Gauges(connection, reader, clock, metrics, 0.01, usages.append)
        with capture_logs() as logs:
            async with anyio.create_task_group() as group:
                async with locker.transaction():
                    await locker.execute("lock table outbox.holds in access exclusive mode")
                    await group.start(gauges.run)

                    async def is_unknown() -> bool:
                        return math.isnan(holds() or 0)

                    await eventually(is_unknown)
                    metrics.holds.labels("app", "operator").set(1)
                    await eventually(is_unknown)  # read once more

                async def is_known() -> bool:
                    return holds() == 0

                await eventually(is_known)
                group.cancel_scope.cancel()
    assert holds() == 0
    assert [line["event"] for line in logs] == ["gauges.unread"]
