"""Connections to PostgreSQL, and whether a server will do.

Every connection of ours is in autocommit and asks for the primary (`target_session_attrs=read-write`): the incident
that this project answers began with a worker that may have read from a replica. Settings are made once connected, not
in the startup message: poolers refuse there what they don't know; behind one, `outbox.pooled` takes over.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, LiteralString
from weakref import WeakKeyDictionary

import orjson
import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb, set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool

from outbox import pooled
from outbox.encode import decode
from outbox.errors import DatabaseUnsuitable
from outbox.grants import find_missing, statement, tell
from schema.errors import ServerUnsuitable
from schema.server import describe, reason

SERVER_VERSION_MIN = 140000
"""PostgreSQL 14: `create or replace trigger`, and xid8 snapshots without a patch."""

PLANNER_SETTINGS: Mapping[str, str] = {
    # Plans over the log and over what waits must not hang on statistics: index scans, always.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}

_COMING = (
    "FATAL:  the database system is starting up",
    "FATAL:  the database system is in recovery mode",
    "FATAL:  the database system is not yet accepting connections",
)
# What libpq finds where it asks for a session that writes, and what a standby says that serves nobody.
_READ_ONLY = ("session is read-only", "server is in hot standby mode", "DETAIL:  Hot standby mode is disabled")

_CHECK_SECONDS = 1.0
_POOL_SECONDS = 10.0

INSPECT_SERVER: LiteralString = """
select
  current_setting('server_version_num')::integer,
  current_setting('server_version'),
  pg_is_in_recovery(),
  current_setting('transaction_read_only') = 'on',
  current_user
"""

IDENTIFY: LiteralString = """
select d.oid, pg_postmaster_start_time() from pg_database as d where d.datname = current_database()
"""

SET: LiteralString = "select set_config(s.name, s.value, false) from jsonb_each_text(%(settings)s) as s (name, value)"


async def connect(
    dsn: str,
    *,
    application_name: str,
    connect_seconds: float = 5,
    statement_seconds: float = 10,
    settings: Mapping[str, str] | None = None,
) -> AsyncConnection[TupleRow]:
    """Open an autocommit connection to the primary.

    Args:
        dsn: A libpq connection string or URI; several hosts are tried in order.
        application_name: What `pg_stat_activity` shows.
        connect_seconds: How long one host may take to answer.
        statement_seconds: The server ends any statement that takes longer.
        settings: Further server settings of this session.

    Raises:
        DatabaseUnsuitable: The server can't be reached or is read-only; one sentence, without the password.
    """
    conninfo = _conninfo(dsn, application_name, connect_seconds)
    try:
        connection = await AsyncConnection.connect(conninfo, autocommit=True)
        try:
            await configure(connection, statement_seconds=statement_seconds, settings=settings)
        except BaseException:
            await connection.close()
            raise
    except psycopg.OperationalError as error:
        raise DatabaseUnsuitable(_why_not_connected(dsn, error)) from error
    return connection


@asynccontextmanager
async def open_pool(
    dsn: str, *, application_name: str, size_max: int, statement_seconds: float = 10
) -> AsyncIterator[AsyncConnectionPool[AsyncConnection[TupleRow]]]:
    """Open a pool of autocommit connections to the primary, and close it at the end."""

    async def configured(connection: AsyncConnection[TupleRow]) -> None:
        await configure(connection, statement_seconds=statement_seconds)

    pool = AsyncConnectionPool(
        _conninfo(dsn, application_name, 5),
        connection_class=AsyncConnection[TupleRow],
        min_size=1,
        max_size=size_max,
        kwargs={"autocommit": True},
        configure=configured,
        check=_Checks(),  # after a failover the idle ones are dead
        open=False,
        timeout=_POOL_SECONDS,
        # Tries that fail come ever farther apart, until they are given up and the next caller begins anew: whoever
        # waits must not wait in vain for a server that is back.
        reconnect_timeout=_POOL_SECONDS,
        name=application_name,
    )
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


class _Checks:
    """Checks that a connection is alive before it is used, by a round trip once a second at most.

    In between it passes for alive while the server has sent nothing: a server that goes tells so, or its kernel does.
    """

    def __init__(self) -> None:
        self._alive_at: WeakKeyDictionary[AsyncConnection[Any], float] = WeakKeyDictionary()

    async def __call__(self, connection: AsyncConnection[Any]) -> None:
        """Raises psycopg.OperationalError where it is not."""
        now = time.monotonic()
        if now - self._alive_at.get(connection, -math.inf) > _CHECK_SECONDS or _has_heard(connection):
            await AsyncConnectionPool.check_connection(connection)
            self._alive_at[connection] = now


def _has_heard(connection: AsyncConnection[Any]) -> bool:
    """Whether there is something to read, where nothing was asked."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def configure(
    connection: AsyncConnection[TupleRow],
    *,
    statement_seconds: float = 10,
    settings: Mapping[str, str] | None = None,
) -> None:
    """Read and write JSON with orjson on a connection, and make its settings, in the way that a pooler allows."""
    set_json_loads(decode, connection)
    set_json_dumps(orjson.dumps, connection)
    milliseconds = str(int(statement_seconds * 1000))
    all_settings = {
        "TimeZone": "UTC",  # else Python looks its rules up for each timestamp
        "statement_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
        **(settings or {}),
    }
    if await pooled.is_pooled(connection):
        pooled.leave_nothing_behind(connection, all_settings)
    else:
        await connection.execute(SET, {"settings": Jsonb(all_settings)})


async def require_suitable(connection: AsyncConnection[TupleRow]) -> None:
    """Check the server and the role before a relay begins.

    Raises:
        DatabaseUnsuitable: Too old, in recovery, read-only, or a grant is missing; one sentence.
    """
    row = await (await connection.execute(INSPECT_SERVER)).fetchone()
    assert row is not None
    version, version_text, in_recovery, read_only, role = row
    if version < SERVER_VERSION_MIN:
        raise DatabaseUnsuitable(f"expected PostgreSQL 14 or newer, found {version_text}: upgrade the server")
    if in_recovery:
        raise DatabaseUnsuitable(
            "expected the primary, found a server in recovery (a replica): point the DSN at the primary"
        )
    if read_only:
        raise DatabaseUnsuitable(
            "expected a server that takes writes, found default_transaction_read_only=on: point the DSN at the primary"
        )
    missing = await find_missing(connection, role, "outbox_relay")
    if missing:
        # What the relay's role itself lacks, no member of it has.
        lost = await find_missing(connection, "outbox_relay", "outbox_relay")
        advice = f"run as the owner: {statement('outbox_relay', *lost[0])}" if lost else f"grant outbox_relay to {role}"
        raise DatabaseUnsuitable(f"role {role} lacks its grants on {tell(missing)}: {advice}")


async def require_same(connection: AsyncConnection[TupleRow], listen_dsn: str) -> None:
    """Check that another address leads to the database of a connection, as far as it leads anywhere now.

    Raises:
        DatabaseUnsuitable: It leads elsewhere, where no bell of this database is heard; one sentence.
    """
    try:
        listener = await connect(listen_dsn, application_name="outbox-start")
    except DatabaseUnsuitable:
        return  # the relay polls until it can listen there
    try:
        ours, theirs = [await (await each.execute(IDENTIFY)).fetchone() for each in (connection, listener)]
    finally:
        await listener.close()
    if ours != theirs:
        raise DatabaseUnsuitable(
            f"expected OUTBOX_LISTEN_DSN to lead to the database of OUTBOX_DSN, found another one at "
            f"{describe(listen_dsn)}: name the server itself, and the same database"
        )


def _conninfo(dsn: str, application_name: str, connect_seconds: float) -> str:
    try:
        describe(dsn)
    except ServerUnsuitable as error:
        raise DatabaseUnsuitable(str(error)) from None
    given = conninfo_to_dict(dsn)
    defaults: dict[str, Any] = {
        "application_name": application_name,
        "connect_timeout": max(2, round(connect_seconds)),
        "target_session_attrs": "read-write",
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
    return make_conninfo(**{**defaults, **given})


def _why_not_connected(dsn: str, error: psycopg.OperationalError) -> str:
    where = describe(dsn)
    text = str(error)
    # Of several hosts the one that is coming may be the primary.
    if any(words in text for words in _COMING):
        return f"PostgreSQL at {where} is starting up or recovering from a crash: {reason(error, dsn)}; try again soon"
    if any(words in text for words in _READ_ONLY):
        return f"expected a server that takes writes, found a read-only one at {where}: point the DSN at the primary"
    return f"can't connect to PostgreSQL at {where}: {reason(error, dsn)}"
