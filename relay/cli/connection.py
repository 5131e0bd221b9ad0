"""A connection for one command, to a database that will do."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Awaitable, Callable
from typing import LiteralString, TypeVar

import anyio
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox import database
from relay.settings import DatabaseSettings
from schema.errors import SchemaMissing
from schema.migrate import require_current
from schema.server import describe, require_version

LOOK: LiteralString = """
select
  to_regclass('outbox.migrations') is not null,
  coalesce(has_table_privilege(to_regclass('outbox.migrations'), 'select'), false)
"""

STATEMENT_SECONDS = 30

_Result = TypeVar("_Result")

Work = Callable[[AsyncConnection[TupleRow]], Awaitable[_Result]]


def address() -> str:
    """Return the database's address from the environment, which may hold a password.

    Raises:
        SettingsError: OUTBOX_DSN is not set.
        ServerUnsuitable: It can't be read; its text is not quoted.
    """
    dsn = DatabaseSettings.load().dsn.get_secret_value()
    describe(dsn)
    return dsn


def listener_address() -> str:
    """Return the address at which the relay listens for the bell. Raises as `address` does."""
    dsn = DatabaseSettings.load().listener_dsn.get_secret_value()
    describe(dsn)
    return dsn


def run_with_database(work: Work[_Result]) -> _Result:
    """Connect, do the work in one event loop, disconnect.

    Raises:
        SettingsError: See `address`.
        ServerUnsuitable: See `address`; or the server is too old.
        DatabaseUnsuitable: It can't be reached, or is read-only.
        SchemaError: Its schema is missing, older or newer than this code.
    """
    return anyio.run(_run, address(), work)


async def _run(dsn: str, work: Work[_Result]) -> _Result:
    async with await database.connect(dsn, application_name=_who(), statement_seconds=STATEMENT_SECONDS) as connection:
        require_version(connection.info.server_version)
        await _require_schema(connection, dsn)
        return await work(connection)


def _who() -> str:
    """Name the person for the audit, as far as this machine knows; PostgreSQL cuts it at 63 bytes."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"outbox {user}@{socket.gethostname()}"


async def _require_schema(connection: AsyncConnection[TupleRow], dsn: str) -> None:
    row = await (await connection.execute(LOOK)).fetchone()
    assert row is not None
    exists, readable = row
    if not exists:
        raise SchemaMissing("expected the schema outbox in the database, found none; run: outbox migrate")
    if readable:  # a role that may only emit can't look
        await anyio.to_thread.run_sync(require_current, dsn)
