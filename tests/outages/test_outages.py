"""PostgreSQL goes away in every way it can, and comes back: the relay goes on by itself, and says it once.

Nothing is lost, no event ends twice, and /readyz tells the truth meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, LiteralString

import anyio
import anyio.to_thread
import pytest
from psycopg import AsyncConnection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from structlog.testing import capture_logs

from relay.app import serve
from relay.settings import RelaySettings
from schema.embedded import EmbeddedPostgres, StopMode
from schema.migrate import migrate
from tests.proxy import Mode, Proxy, open_proxy
from tests.relay.running import (
    Script,
    Store,
    all_settled,
    emit,
    eventually,
    get,
    ready,
    rows,
    settings,
    value,
)

pytestmark = pytest.mark.anyio

Server = Callable[..., EmbeddedPostgres]

LONG_SECONDS = 120.0
PASSWORD = "sesame"
BACKENDS: LiteralString = """
select distinct application_name from pg_stat_activity
where datname = current_database() and application_name like 'outbox-%' and application_name <> 'outbox-test'
order by application_name
"""
ALL_CONNECTED: LiteralString = """
select count(distinct application_name) >= 7 from pg_stat_activity
where datname = current_database() and application_name like 'outbox-%' and application_name <> 'outbox-test'
"""
TERMINATE: LiteralString = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and application_name = %s
"""
FULL: LiteralString = """
create function public.fail() returns trigger language plpgsql as $$
begin
  raise exception 'could not extend file: No space left on device' using errcode = 'disk_full';
end
$$;
create trigger fail before insert on outbox.receipts execute function public.fail();
"""
ROOM: LiteralString = "drop trigger fail on outbox.receipts"


@dataclass(slots=True)
class Told:
    """What a relay logged."""

    logs: list[Any]

    @property
    def warnings(self) -> list[str]:
        """What a person on call reads."""
        return [line["event"] for line in self.logs if line["log_level"] in ("warning", "error", "critical")]


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Store]:
    """A connection of the test's own."""
    async with await AsyncConnection.connect(dsn, autocommit=True, application_name="outbox-test") as connection:
        yield connection


async def down(url: str) -> bool:
    """Whether the relay says that it does not work."""
    return (await get(f"{url}/readyz"))[0] == 503


async def emit_all(dsn: str, names: list[str]) -> None:
    """Emit events of three sequences."""
    async with connected(dsn) as store:
        for number, name in enumerate(names):
            await emit(store, name, key=f"k{number % 3}", sequence="s")


async def ended_once(dsn: str, script: Script, names: list[str]) -> None:
    """Wait until every event has ended, and see that each was handled, in order, and published."""
    async with connected(dsn) as store:
        await all_settled(store, len(names), seconds=LONG_SECONDS)
        assert await value(store, "select count(*) from outbox.receipts where outcome = 'published'") == len(names)
    for key in range(3):
        in_order = [name for number, name in enumerate(names) if number % 3 == key]
        assert [name for name in dict.fromkeys(script.calls) if name in in_order] == in_order


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restart_of_postgresql(own_server: Server, script: Script, mode: StopMode) -> None:
    """Under load; what was begun before is finished after it."""
    server = own_server()
    dsn = server.create_database("app")
    migrate(dsn)
    names = [f"{number:03}" for number in range(120)]
    with capture_logs() as logs:
        async with steady(settings(dsn), script) as url:
            await emit_all(dsn, names[:60])
            await anyio.to_thread.run_sync(partial(server.restart, mode))
            await emit_all(dsn, names[60:])
            await ended_once(dsn, script, names)
            await eventually(lambda: ready(url), seconds=LONG_SECONDS)
    assert Told(logs).warnings == ["incarnation.ended"]


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.RESET, Mode.BLACK_HOLE])
async def test_the_network_fails(database: str, script: Script, mode: Mode) -> None:
    """Not ready as long as it lasts, alive all the time; one line, however many tries it takes."""
    async with open_proxy(database) as proxy:
        with capture_logs() as logs:
            async with steady(settings(proxy.dsn(database), lease_seconds=6), script) as url:
                await emit_all(database, ["before"])
                await ended_once(database, script, ["before"])
                await proxy.use(mode)
                if mode is Mode.REFUSE:
                    await terminate_all(database)
                await emit_all(database, ["meanwhile"])
                await eventually(lambda: down(url), seconds=LONG_SECONDS)
                accepted_before = proxy.accepted_count
                if mode is not Mode.REFUSE:
                    await eventually(lambda: tried_again(proxy, accepted_before + 2), seconds=LONG_SECONDS)
                assert (await get(f"{url}/healthz"))[0] == 200
                assert await down(url)
                await proxy.use(Mode.PASS)
                await eventually(lambda: ready(url), seconds=LONG_SECONDS)
                await ended_once(database, script, ["before", "meanwhile"])
    assert Told(logs).warnings == ["incarnation.ended"]


async def test_a_network_of_two_seconds(database: str, script: Script) -> None:
    """Slow is not away: the lease is kept, and events end."""
    async with open_proxy(database) as proxy:
        with capture_logs() as logs:
            async with steady(settings(proxy.dsn(database), lease_seconds=15), script) as url:
                await proxy.use(Mode.LATENCY, latency_seconds=1)
                await emit_all(database, ["a", "b", "c"])
                await ended_once(database, script, ["a", "b", "c"])
                assert await ready(url)
                await proxy.use(Mode.PASS)
    assert Told(logs).warnings == []


async def test_connections_that_end_one_by_one(database: str, script: Script) -> None:
    """Whichever of the relay's it is: lease, reader, settler, timers, gauges, listener, pruner, a handler's."""
    names: list[str] = []
    async with connected(database) as store, steady(settings(database), script) as url:
        await eventually(partial(value, store, ALL_CONNECTED))
        backends = await rows(store, BACKENDS)
        for (application_name,) in backends:
            names.append(application_name)
            await emit_all(database, [application_name])
            await store.execute(TERMINATE, [application_name])
            await all_settled(store, len(names), seconds=LONG_SECONDS)
            await eventually(lambda: ready(url), seconds=LONG_SECONDS)
    await ended_once(database, script, names)


async def test_the_limit_of_connections(database: str, script: Script) -> None:
    """The relay's role may connect no more: it waits, and goes on when it may again."""
    role = f"worker_{conninfo_to_dict(database)['dbname']}"
    async with connected(database) as store:
        create = sql.SQL("create role {} login password {} in role outbox_relay")
        await store.execute(create.format(sql.Identifier(role), sql.Literal(PASSWORD)))
        try:
            with capture_logs() as logs:
                async with steady(settings(make_conninfo(database, user=role, password=PASSWORD)), script) as url:
                    await store.execute(sql.SQL("alter role {} connection limit 0").format(sql.Identifier(role)))
                    await terminate_all(database)
                    await emit_all(database, ["a"])
                    await eventually(lambda: down(url), seconds=LONG_SECONDS)
                    await store.execute(sql.SQL("alter role {} connection limit -1").format(sql.Identifier(role)))
                    await ended_once(database, script, ["a"])
                    await eventually(lambda: ready(url), seconds=LONG_SECONDS)
            assert Told(logs).warnings == ["incarnation.ended"]
        finally:
            await store.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


async def test_a_full_disk(database: str, script: Script) -> None:
    """No receipt can be written: no event is taken for handled, none is lost, and each ends when there is room."""
    async with connected(database) as store:
        with capture_logs() as logs:
            async with steady(settings(database), script) as url:
                await store.execute(FULL)
                await emit_all(database, ["a", "b", "c"])
                await eventually(lambda: down(url), seconds=LONG_SECONDS)
                assert await value(store, "select count(*) from outbox.receipts") == 0
                await store.execute(ROOM)
                await ended_once(database, script, ["a", "b", "c"])
                await eventually(lambda: ready(url), seconds=LONG_SECONDS)
    assert Told(logs).warnings == ["incarnation.ended"]


@asynccontextmanager
async def steady(settings: RelaySettings, script: Script) -> AsyncIterator[str]:
    """A relay beside the block, without a bound on how long that takes; begins when it works and listens."""
    stop = anyio.Event()
    async with serve(settings, stop, factories=script.factories) as url:
        try:
            await eventually(lambda: ready(url), seconds=LONG_SECONDS)
            yield url
        finally:
            stop.set()


async def terminate_all(dsn: str) -> None:
    """End every connection of the relay."""
    async with connected(dsn) as store:
        for (name,) in await rows(store, BACKENDS):
            await store.execute(TERMINATE, [name])


async def tried_again(proxy: Proxy, count: int) -> bool:
    """Whether somebody has connected to the proxy so many times."""
    return proxy.accepted_count >= count
