"""The proxy that has the network fail does to a connection what its modes say."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from tests.proxy import Mode, Proxy, open_proxy

pytestmark = pytest.mark.anyio


@pytest.fixture
async def proxy(database: str) -> AsyncIterator[Proxy]:
    """A proxy before a database of the test's own."""
    async with open_proxy(database) as proxy:
        yield proxy


async def connect(database: str, proxy: Proxy) -> AsyncConnection[TupleRow]:
    return await AsyncConnection.connect(proxy.dsn(database), autocommit=True, sslmode="disable", gssencmode="disable")


async def test_it_carries_both_ways(database: str, proxy: Proxy) -> None:
    """A query of some size goes there, and a larger answer comes back."""
    async with await connect(database, proxy) as connection:
        row = await (await connection.execute("select length(%s), repeat('x', 1000000)", ["y" * 100_000])).fetchone()
        assert row is not None
        assert (row[0], len(str(row[1]))) == (100_000, 1_000_000)
    assert proxy.accepted_count == 1


async def test_latency_is_there_and_back(database: str, proxy: Proxy) -> None:
    """A round trip takes at least twice as long as one way."""
    async with await connect(database, proxy) as connection:
        await proxy.use(Mode.LATENCY, latency_seconds=0.1)
        before = anyio.current_time()
        await connection.execute("select 1")
        assert anyio.current_time() - before >= 0.2


async def test_a_black_hole_holds_back_what_arrives_later(database: str, proxy: Proxy) -> None:
    """The server hears of nothing meanwhile, and afterwards of all that was sent, in its order."""
    async with await AsyncConnection.connect(database, autocommit=True) as direct:
        await direct.execute("create table public.arrived (id integer)")
        connection = await connect(database, proxy)
        await proxy.use(Mode.BLACK_HOLE)
        async with anyio.create_task_group() as group:
            group.start_soon(connection.execute, "insert into public.arrived values (1)")
            await anyio.wait_all_tasks_blocked()
            row = await (await direct.execute("select count(*) from public.arrived")).fetchone()
            assert row == (0,)
            await proxy.use(Mode.PASS)
        row = await (await direct.execute("select count(*) from public.arrived")).fetchone()
        assert row == (1,)
        await connection.close()


async def test_a_reset_ends_connections_and_new_ones(database: str, proxy: Proxy) -> None:
    """Until the mode changes."""
    connection = await connect(database, proxy)
    await proxy.use(Mode.RESET)
    with pytest.raises(psycopg.OperationalError):
        await connection.execute("select 1")
    await connection.close()
    with pytest.raises(psycopg.OperationalError):
        await connect(database, proxy)
    await proxy.use(Mode.PASS)
    async with await connect(database, proxy) as connection:
        await connection.execute("select 1")


async def test_refusing_is_for_new_connections(database: str, proxy: Proxy) -> None:
    """Those that were there go on; afterwards the port is the same."""
    async with await connect(database, proxy) as connection:
        await proxy.use(Mode.REFUSE)
        with pytest.raises(psycopg.OperationalError, match="refused"):
            await connect(database, proxy)
        await connection.execute("select 1")
        await proxy.use(Mode.PASS)
        async with await connect(database, proxy) as another:
            await another.execute("select 1")


async def test_its_connections_end_with_it(database: str) -> None:
    """Those that are stuck in a black hole too: a socket that is left open is a warning, and fails whatever is next."""
    async with open_proxy(database) as proxy:
        await proxy.use(Mode.BLACK_HOLE)
        client = await anyio.connect_tcp("127.0.0.1", proxy.port)
        while not proxy.accepted_count:  # noqa: ASYNC110 (it wakes nobody)
            await anyio.sleep(0.01)
    async with client:
        with anyio.fail_after(60), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await client.receive()
