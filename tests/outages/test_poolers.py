"""Behind a pooler in transaction mode the relay polls; with an address past it, it hears the doorbell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import LiteralString

import pytest
from psycopg import AsyncConnection, errors
from pydantic import SecretStr
from structlog.testing import capture_logs

from outbox import database as connections
from outbox.doctor.examination import examine
from tests.outages import pgbouncer
from tests.outages.studio import ask, open_studio, settled
from tests.relay.running import Script, all_settled, emit, eventually, get, relay, rows, settings, value, working

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(not pgbouncer.is_installed(), reason=pgbouncer.MISSING)]

LONG_SECONDS = 120.0
CHANNELS: LiteralString = "select array(select pg_listening_channels()), (select count(*) from pg_prepared_statements)"


@pytest.fixture
def pooled(database: str) -> Iterator[str]:
    """The address of the test's database, through a pgbouncer."""
    with pgbouncer.running(database) as dsn:
        yield dsn


async def answers(url: str, text: str) -> bool:
    """Whether a relay is ready and says so."""
    status, body = await get(f"{url}/readyz")
    return status == 200 and text in body


async def nothing_is_left_behind(pooled: str) -> None:
    """Hold all server connections of the pool at once, and see that none listens or has a statement prepared."""
    async with AsyncExitStack() as stack:
        for _ in range(pgbouncer.POOL_SIZE):
            connection = await stack.enter_async_context(
                await AsyncConnection.connect(pooled, autocommit=True, prepare_threshold=None)
            )
            await stack.enter_async_context(connection.transaction())
            assert await rows(connection, CHANNELS) == [([], 0)]


async def test_the_relay_polls_and_says_so(database: str, pooled: str, script: Script) -> None:
    """What waits, what is ordered and what is written in steps too; nobody is left listening in its place."""
    names = [f"{number:03}" for number in range(60)]
    with capture_logs() as logs:
        async with (
            await AsyncConnection.connect(database, autocommit=True) as store,
            relay(settings(pooled, poll_unlistened_seconds=0.05), script) as url,
        ):
            await eventually(lambda: answers(url, '"polling behind a pooler"'), seconds=LONG_SECONDS)
            for number, name in enumerate(names):
                later = 0.2 if number % 10 == 9 else None
                await emit(store, name, key=f"k{number % 3}", sequence="s", publish_in=later)
            await all_settled(store, len(names), seconds=LONG_SECONDS)
            assert await value(store, "select count(*) from outbox.receipts where outcome = 'published'") == len(names)
    await nothing_is_left_behind(pooled)
    for key in range(3):
        in_order = [name for number, name in enumerate(names) if number % 3 == key]
        assert [name for name in script.calls if name in in_order] == in_order
    warnings = [line["event"] for line in logs if line["log_level"] in ("warning", "error")]
    assert warnings == ["listener.unavailable"]


async def test_writers_are_asked_not_to_ring(database: str, pooled: str, script: Script) -> None:
    """Nobody would hear them, and each would take the lock of the whole cluster."""
    muted: LiteralString = "select coalesce(bool_or(awake_until > clock_timestamp()), false) from outbox.relays"
    async with (
        await AsyncConnection.connect(database, autocommit=True) as store,
        await AsyncConnection.connect(database, autocommit=True) as listener,
        relay(settings(pooled, poll_unlistened_seconds=0.05), script),
    ):
        await listener.execute("listen outbox")
        await eventually(lambda: value(store, muted), seconds=LONG_SECONDS)
        [_ async for _ in listener.notifies(timeout=0.3)]
        for _ in range(20):
            await emit(store, "a")
        await all_settled(store, 20, seconds=LONG_SECONDS)
        assert [heard.payload async for heard in listener.notifies(timeout=0.3)] == []


async def test_stories_go_live(database: str, pooled: str) -> None:
    """The real publisher: tokens, intents and steps, by way of the pooler."""
    async with open_studio() as studio:
        await studio.open_accounts(pooled)
        await studio.approve(pooled, "instagram", 2)
        await studio.approve(pooled, "facebook", 2)
        async with studio.relay(pooled, poll_unlistened_seconds=0.05):
            await settled(database, 4)
        assert ask(database, "select count(*) from outbox.receipts where outcome = 'published'") == 4


async def test_an_address_past_the_pooler_brings_the_doorbell_back(database: str, pooled: str, script: Script) -> None:
    """Nothing is polled for a minute: what is prompt was rung for."""
    direct = SecretStr(database)
    async with (
        await AsyncConnection.connect(database, autocommit=True) as store,
        working(settings(pooled, listen_dsn=direct, poll_seconds=60.0), script),
    ):
        await emit(store, "a")
        await all_settled(store, 1)


async def test_a_statement_brings_its_settings_and_leaves_none(database: str, pooled: str) -> None:
    """Whoever gets the server connection next finds it as it was."""
    async with (
        await connections.connect(
            pooled, application_name="t", statement_seconds=7, settings=connections.PLANNER_SETTINGS
        ) as ours,
        await AsyncConnection.connect(pooled, autocommit=True, prepare_threshold=None) as theirs,
        await AsyncConnection.connect(database, autocommit=True) as direct,
    ):
        for name, expected in {"statement_timeout": "7s", "enable_seqscan": "off", "jit": "off"}.items():
            usual = await value(direct, "select current_setting(%s)", [name])
            assert await value(ours, "select current_setting(%s)", [name]) == expected
            assert await value(theirs, "select current_setting(%s)", [name]) == usual
        assert await value(ours, "select %s::jsonb -> 'ü'", ['{"ü": [1, null]}']) == [1, None]
        assert await value(theirs, "select count(*) from pg_prepared_statements") == 0
        with pytest.raises(errors.UniqueViolation):
            await ours.execute("insert into outbox.lanes select * from outbox.lanes")
        async with ours.transaction():
            await ours.execute("create temporary table t (a integer) on commit drop")
            await ours.execute("insert into t values (%s)", [1])
            assert await rows(ours, "select a from t") == [(1,)]


async def test_the_doctor_sees_the_pooler(database: str, pooled: str) -> None:
    """And listens past it, where the relay does; through it never."""
    past = {each.check: each for each in await examine(pooled, database)}
    assert (past["pooler"].advice, past["listen"].advice) == (None, None)
    found = {each.check: each for each in await examine(pooled)}
    assert found["pooler"].advice is not None
    assert "OUTBOX_LISTEN_DSN" in found["pooler"].advice
    assert found["listen"].found == "a notification did not come back"
