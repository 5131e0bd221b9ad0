"""The relay deletes what ended long ago, on its own, and suffers nothing from it."""

from __future__ import annotations

import psycopg
import pytest
from structlog.testing import capture_logs

from outbox.settings import SettingsError
from relay.settings import RelaySettings
from tests.operations.histories import Histories
from tests.relay.running import Script, Store, emit, eventually, settings, state_is, value, working

pytestmark = pytest.mark.anyio

COUNT = "select count(*) from outbox.events"
LOCK = "select pg_advisory_lock(hashtextextended('outbox.prune', 0))"


@pytest.fixture
def old(database: str) -> int:
    """So many events that ended long ago."""
    with psycopg.connect(database, autocommit=True) as connection:
        histories = Histories(connection)
        count = len([histories.ended_long_ago() for _ in range(3)])
        histories.pass_events()
    return count


async def test_a_relay_prunes(database: str, store: Store, script: Script, old: int) -> None:
    """Soon after it has started, while it works; then once in a while."""
    with capture_logs() as logs:
        async with working(settings(database, prune_seconds=3600), script):
            await eventually(lambda: value(store, "select count(*) = 0 from outbox.events"))
            await state_is(store, await emit(store, "a"), "published")

            async def told() -> bool:
                return [line["count"] for line in logs if line["event"] == "events.pruned"] == [old]

            await eventually(told)
    assert await value(store, COUNT) == 1


async def test_a_retention_of_zero_keeps_everything(database: str, store: Store, script: Script, old: int) -> None:
    """No pruning is begun."""
    async with working(settings(database, retention_days=0, prune_seconds=1), script):
        await state_is(store, await emit(store, "a"), "published")
    assert await value(store, COUNT) == old + 1


async def test_a_relay_leaves_pruning_to_whoever_does_it(database: str, store: Store, script: Script, old: int) -> None:
    """It does not wait, and looks again on its schedule."""
    with capture_logs() as logs:
        await store.execute(LOCK)
        async with working(settings(database, prune_seconds=1), script):
            await state_is(store, await emit(store, "a"), "published")
            assert await value(store, COUNT) == old + 1
            await store.execute("select pg_advisory_unlock_all()")
            await eventually(lambda: value(store, "select count(*) = 1 from outbox.events"))
    assert not [line for line in logs if line["event"] == "prune.failed"]


async def test_pruning_that_fails_stops_nothing(database: str, store: Store, script: Script, old: int) -> None:
    """It is told in one line, and the incarnation goes on."""
    await store.execute(
        "create or replace function outbox.prunable("
        "retention interval, count_max integer, after bigint default 0, ended_before timestamptz default null) returns "
        "setof bigint language plpgsql as $$ begin raise exception 'out of\norder'; end $$"
    )
    with capture_logs() as logs:
        async with working(settings(database), script):
            await state_is(store, await emit(store, "a"), "published")

            async def told() -> bool:
                return any(line["event"] == "prune.failed" for line in logs)

            await eventually(told)
    [line] = [line for line in logs if line["event"] == "prune.failed"]
    assert line["error"].startswith("out of order")
    assert await value(store, "select count(*) from outbox.relays where name <> 'host:1'") == 1
    assert await value(store, COUNT) == old + 1


def test_a_retention_of_one_day_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence, with the variable's name."""
    monkeypatch.setenv("OUTBOX_DSN", "postgresql://localhost/app")
    monkeypatch.setenv("OUTBOX_RETENTION_DAYS", "1")
    with pytest.raises(SettingsError, match=r"^OUTBOX_RETENTION_DAYS: expected 2 days at least"):
        RelaySettings.load()
