"""A server that will not do is refused in one sentence, without the password."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import LiteralString
from uuid import UUID, uuid4

import anyio
import anyio.to_thread
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import PoolTimeout

from outbox import database as connections
from outbox.encode import encode_ids
from outbox.errors import DatabaseUnsuitable
from outbox.grants import find_missing, grants_of
from schema.embedded import EmbeddedPostgres
from tests.outbox.store import Store, eventually, value
from tests.proxy import Mode, open_proxy

pytestmark = pytest.mark.anyio


async def test_a_connection_is_in_autocommit_and_says_who_it_is(store: Store) -> None:
    """No transaction of ours is left open, and an administrator sees whose connection it is."""
    assert store.autocommit
    assert await value(store, "show application_name") == "outbox-test"


async def test_statements_end_after_a_while(store: Store) -> None:
    """No lock and no snapshot of ours outlives its seconds."""
    assert await value(store, "show statement_timeout") == "10s"
    assert await value(store, "show idle_in_transaction_session_timeout") == "10s"


async def test_options_of_the_address_are_kept(database: str) -> None:
    """What the DSN sets, stays set beside our own settings."""
    dsn = make_conninfo(database, options="-c search_path=social")
    async with await connections.connect(
        dsn, application_name="t", settings=connections.PLANNER_SETTINGS
    ) as connection:
        assert await value(connection, "show search_path") == "social"
        assert await value(connection, "show enable_seqscan") == "off"


async def test_instants_come_in_utc(database: str) -> None:
    """Whatever the server's zone: Python knows no rule of it that it would have to look up for each instant."""
    dsn = make_conninfo(database, options="-c TimeZone=Europe/Berlin")
    async with await connections.connect(dsn, application_name="t") as connection:
        at = await value(connection, "select timestamptz '2030-07-01 12:00+02'")
    assert at.isoformat() == "2030-07-01T10:00:00+00:00"


async def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    """The sentence tells where, not with what."""
    dsn = "postgresql://relay:sesame@127.0.0.1:1/app"
    with pytest.raises(
        DatabaseUnsuitable, match=r"can't connect to PostgreSQL at 127\.0\.0\.1:\d+, database app, role relay: "
    ) as raised:
        await connections.connect(dsn, application_name="t")
    assert "sesame" not in str(raised.value)
    assert "\n" not in str(raised.value)


async def test_something_that_is_no_address_is_not_repeated() -> None:
    """A token in the wrong variable is not printed."""
    with pytest.raises(DatabaseUnsuitable, match="expected an address such as") as raised:
        await connections.connect("sesame open", application_name="t")
    assert "sesame" not in str(raised.value)


async def test_a_read_only_server_is_refused(database: str) -> None:
    """A replica, or a primary that takes no writes, is no place for a relay."""
    with psycopg.connect(database, autocommit=True) as connection:
        name = sql.Identifier(str(conninfo_to_dict(database)["dbname"]))
        connection.execute(sql.SQL("alter database {} set default_transaction_read_only = on").format(name))
    with pytest.raises(DatabaseUnsuitable, match="expected a server that takes writes, found a read-only one"):
        await connections.connect(database, application_name="t")


@pytest.mark.parametrize("name", ["recovery", "read-only"])
async def test_a_database_that_does_not_exist_is_no_standby(database: str, name: str) -> None:
    """Whatever it is called."""
    with pytest.raises(DatabaseUnsuitable, match=rf'^can\'t connect to .*: .*database "{name}" does not exist'):
        await connections.connect(make_conninfo(database, dbname=name), application_name="t")


async def test_a_server_that_recovers_is_no_standby(own_server: Callable[..., EmbeddedPostgres]) -> None:
    """A primary after a crash, or after a restore: nothing is wrong with the address."""
    server = own_server({"restore_command": "until [ -e go_on ]; do sleep 0.05; done; false"})
    data = server.directory / "cluster" / "data"
    (data / "recovery.signal").touch()
    said: list[str] = []

    async def is_told() -> bool:
        try:
            await (await connections.connect(server.dsn(), application_name="t")).close()
        except DatabaseUnsuitable as error:
            said.append(str(error))
        return bool(said) and said[-1].startswith("PostgreSQL at ")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, server.restart, "kill")
        try:
            await eventually(is_told)
        finally:
            (data / "go_on").touch()
    assert re.search(r"is starting up or recovering from a crash: .*FATAL: .*; try again soon$", said[-1])


async def test_a_role_without_grants_is_told_which(store: Store) -> None:
    """The sentence names what is missing and the role to grant."""
    await store.execute("set role outbox_emitter")
    expected = r"outbox_emitter lacks .*outbox\.attempts \(select\).* more: grant outbox_relay to outbox_emitter$"
    with pytest.raises(DatabaseUnsuitable, match=expected):
        await connections.require_suitable(store)


@pytest.mark.parametrize(
    ("name", "privilege"), [("outbox.dispatches", "insert"), ("outbox.holds", "insert"), ("social.usage", "update")]
)
async def test_a_grant_that_the_relays_role_lost_is_told(
    store: Store, name: LiteralString, privilege: LiteralString
) -> None:
    """All of them, also those that a relay needs for the first time when it holds a key; with the statement for it."""
    await store.execute(sql.SQL("revoke {} on {} from outbox_relay").format(sql.SQL(privilege), sql.SQL(name)))
    await store.execute("set role outbox_relay")
    expected = (
        rf"lacks its grants on {name} \({privilege}\): run as the owner: grant {privilege} on {name} to outbox_relay$"
    )
    with pytest.raises(DatabaseUnsuitable, match=expected):
        await connections.require_suitable(store)


async def test_a_role_that_does_not_exist_lacks_everything(store: Store) -> None:
    """A dump of one database holds no roles: that is no error of its own."""
    assert await find_missing(store, "outbox_nobody", "outbox_relay") == grants_of("outbox_relay")


async def test_the_relays_role_will_do(store: Store) -> None:
    """The role that the schema makes has all that is asked for."""
    await store.execute("set role outbox_relay")
    await connections.require_suitable(store)


async def test_json_survives_the_round_trip(store: Store) -> None:
    """What was stored comes back equal, non-ASCII included."""
    await store.execute("select outbox.emit('t', %s)", [psycopg.types.json.Jsonb({"a": [1, None, "ü"]})])
    assert await value(store, "select payload from outbox.events") == {"a": [1, None, "ü"]}


@pytest.mark.parametrize("ids", [[], [None], [uuid4(), None, UUID(int=0), UUID(int=2**128 - 1)]])
async def test_ids_arrive_in_their_order_with_their_gaps(store: Store, ids: list[UUID | None]) -> None:
    """Those that are left out too."""
    assert await value(store, "select %s::uuid[]", [encode_ids(ids)]) == ids


async def test_a_connection_of_the_pool_that_has_ended_is_not_handed_out(database: str, store: Store) -> None:
    """Not even right after it was used and found alive: what the server said as it went is noticed without asking."""
    async with connections.open_pool(database, application_name="t", size_max=1) as pool:
        async with pool.connection() as connection:
            ended = connection.info.backend_pid
        await store.execute("select pg_terminate_backend(%s, 60000)", [ended])
        async with pool.connection() as connection:
            assert await value(connection, "select pg_backend_pid()") != ended


async def test_a_pool_asks_once_whether_a_busy_connection_is_alive(database: str) -> None:
    """A round trip before each statement would be half of what a handler's look-up costs."""
    async with connections.open_pool(database, application_name="t", size_max=1) as pool:
        async with pool.connection() as connection:
            await connection.execute("set client_min_messages = log")
        async with pool.connection() as connection:
            notices: list[str | None] = []
            connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
            await connection.execute("set log_duration = on")
            notices.clear()
        for _ in range(20):
            async with pool.connection() as connection:
                await connection.execute("select 1", prepare=False)
    assert len(notices) < 30


async def test_a_pool_is_of_use_as_soon_as_the_server_is(database: str) -> None:
    """However long it was away: between two tries to connect passes less than a caller waits for a connection."""
    async with (
        open_proxy(database) as proxy,
        connections.open_pool(proxy.dsn(database), application_name="t", size_max=1) as pool,
    ):
        async with pool.connection():
            pass
        await proxy.use(Mode.REFUSE)
        await proxy.end()
        with pytest.raises(PoolTimeout):
            async with pool.connection():
                pytest.fail("it had a connection")

        async def failed() -> bool:
            return pool.get_stats()["connections_errors"] >= 5  # the sixth try would be as late as a caller's patience

        await eventually(failed)
        await proxy.use(Mode.PASS)
        async with pool.connection() as connection:
            assert await value(connection, "select 1") == 1
