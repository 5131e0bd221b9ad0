"""The database of a benchmark: made for one run, dropped at its end, also when it is interrupted.

A run that is killed without a chance to tidy up leaves its database behind, and the next one drops it: a run keeps a
connection to its database for as long as it lives, so what has our name and mark and can be dropped is nobody's.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, LiteralString

import psycopg
from psycopg import Connection, sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from outbox.errors import OutboxError
from relay.bench.readings import HOLDER
from schema.binaries import find_binaries
from schema.embedded import EmbeddedPostgres
from schema.migrate import migrate
from schema.server import connect, describe

PREFIX: Final = "outbox_bench_"

# template0: nobody can be connected to it, which `create database` asks of its template.
CREATE: Final = sql.SQL("create database {} template template0")
MARK: Final = sql.SQL("comment on database {} is 'outbox bench: dropped at the end of its run, or by the next one'")
DROP: Final = sql.SQL("drop database if exists {} with (force)")
# Refused while anybody is connected.
DROP_ABANDONED: Final = sql.SQL("drop database if exists {}")
LIST_MARKED: LiteralString = """
select datname from pg_database
where datname ~ '^outbox_bench_[0-9a-f]{8}$' and shobj_description(oid, 'pg_database') like 'outbox bench: %'
"""


@dataclass(frozen=True, slots=True)
class Server:
    """Where to measure.

    Attributes:
        dsn: Its address, which may hold a password.
        origin: Which one it is, for people; no secret.
        version: Such as 18.6.
        pgbench: The program, where one was found.
    """

    dsn: str
    origin: str
    version: str
    pgbench: str | None


@contextmanager
def open_server(dsn: str | None) -> Iterator[Server]:
    """Take the server that is named, else run an embedded one, on disk and with fsync, until the end of the block.

    Raises:
        SchemaError: It can't be reached or started.
    """
    if dsn is not None:
        with connect(dsn) as connection:
            version = connection.info.parameter_status("server_version") or "unknown"
        yield Server(dsn, describe(dsn), version.partition(" ")[0], shutil.which("pgbench"))
        return
    beside = find_binaries().program("pgbench")
    with EmbeddedPostgres.start() as postgres:
        pgbench = beside if Path(beside).exists() else shutil.which("pgbench")
        yield Server(postgres.dsn(), f"embedded, in {postgres.directory}", postgres.version, pgbench)


@contextmanager
def open_scratch(server: Server) -> Iterator[str]:
    """Make and migrate a database, give its address, and drop it at the end of the block.

    Raises:
        OutboxError: The role may not create databases.
        SchemaError: The schema can't be applied.
    """
    name = f"{PREFIX}{secrets.token_hex(4)}"
    scratch = make_conninfo(server.dsn, dbname=name)
    try:
        with connect(server.dsn) as connection:
            _drop_abandoned(connection)
            connection.execute(CREATE.format(sql.Identifier(name)))
        with connect(make_conninfo(scratch, application_name=HOLDER)) as holder:
            holder.execute(MARK.format(sql.Identifier(name)))
            migrate(scratch)
            yield scratch
    except psycopg.errors.InsufficientPrivilege as error:
        raise OutboxError(
            "expected a role that may create databases, for a benchmark measures on one of its own, "
            f"found: {error.diag.message_primary}; alter role ... createdb, or unset OUTBOX_DSN to measure on an "
            "embedded PostgreSQL"
        ) from None
    finally:
        with connect(server.dsn) as connection:
            connection.execute(DROP.format(sql.Identifier(name)))


def _drop_abandoned(connection: Connection[TupleRow]) -> None:
    """Drop the databases of runs that were killed."""
    for (name,) in connection.execute(LIST_MARKED).fetchall():
        with contextlib.suppress(psycopg.errors.ObjectInUse, psycopg.errors.InsufficientPrivilege):
            connection.execute(DROP_ABANDONED.format(sql.Identifier(name)))
