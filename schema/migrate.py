"""Brings a database to the schema that this code expects, forward only.

One transaction under one advisory lock: it happens whole or not at all, and two that race do it once. Which files a
database has seen is recorded in `outbox.migrations` and `outbox.migrated_functions`, which this module makes itself.
Functions are applied again when their file has changed, and all of them when a migration ran.

The order of locks is: the advisory lock first, then whatever the SQL files lock. A lock that other transactions hold is
waited for only shortly, and everything is tried again later: so long do writers queue up behind a migration that waits.
Once it has a lock it keeps it to the end of the transaction, and writers of that table wait: milliseconds for what
changes the catalog alone, 0.2 to 3 seconds for each million rows that an index is built of, on two busy cores.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final, LiteralString

import psycopg
from psycopg import pq, sql
from psycopg.rows import tuple_row

from schema.errors import (
    MigrationFailed,
    SchemaBusy,
    SchemaError,
    SchemaMissing,
    SchemaOutdated,
    ServerUnsuitable,
)
from schema.plan import Books, Plan, decide
from schema.scripts import Function, Migration, Scripts, load
from schema.server import connect, require_version

Database = str | psycopg.Connection[Any]

LOCK_SECONDS: Final = 2.0
ATTEMPTS: Final = 10
# Between two attempts, as a share of the wait for locks, at random: writers that queued up behind us go first.
PAUSE_SHARE: Final = (0.25, 0.75)

READ_ONLY: Final[LiteralString] = "set transaction isolation level repeatable read, read only"
# Read committed: whoever waited for the advisory lock must see what the one before it did.
READ_COMMITTED: Final[LiteralString] = "set transaction isolation level read committed"
# The number is "outbox" in ASCII.
TAKE_LOCK: Final[LiteralString] = """
set local statement_timeout = 0;
set local lock_timeout = '60s';
set local search_path = pg_catalog, pg_temp;
set local client_min_messages = warning;
do $$
begin
  perform pg_advisory_xact_lock(122550254464888);
end
$$;
"""
LIMIT_WAITING: Final[LiteralString] = "select set_config('lock_timeout', %s, true)"
LIMIT_WAITING_IN_TEXT: Final[LiteralString] = "set local lock_timeout = '10s';\n"

MAKE_BOOKS: Final[LiteralString] = """
do $$
begin
  if to_regnamespace('outbox') is null then
    create schema outbox;
  end if;
end
$$;

create table if not exists outbox.migrations (
  version integer primary key,
  name text not null,
  checksum text not null,
  applied_at timestamptz not null default clock_timestamp()
);
alter table outbox.migrations add column if not exists breaks_older boolean not null default false;
comment on table outbox.migrations is 'The files of schema/migrations/ that this database has seen.';
comment on column outbox.migrations.version is 'The number that the file''s name begins with.';
comment on column outbox.migrations.name is 'The file''s name without .sql.';
comment on column outbox.migrations.checksum is 'SHA-256 of the file: an applied migration is never edited.';
comment on column outbox.migrations.applied_at is 'When it was applied.';
comment on column outbox.migrations.breaks_older is 'Whether releases that do not know it must not run any more.';

create table if not exists outbox.migrated_functions (
  name text primary key,
  checksum text not null,
  applied_at timestamptz not null default clock_timestamp()
);
comment on table outbox.migrated_functions is 'The files of schema/functions/ as they were last applied.';
comment on column outbox.migrated_functions.name is 'The file''s name without .sql.';
comment on column outbox.migrated_functions.checksum is 'SHA-256 of the file: it is applied again when this differs.';
comment on column outbox.migrated_functions.applied_at is 'When it was last applied.';
"""
HAS_BOOKS: Final[LiteralString] = """
select to_regclass('outbox.migrations') is not null and to_regclass('outbox.migrated_functions') is not null
"""
SELECT_MIGRATIONS: Final[LiteralString] = "select version, name, checksum from outbox.migrations order by version"
# By the row's text, for a database that was last migrated before there was the column.
SELECT_BREAKING: Final[LiteralString] = """
select m.version from outbox.migrations as m
where coalesce((to_jsonb(m) ->> 'breaks_older')::boolean, false)
order by m.version
"""
SELECT_FUNCTIONS: Final[LiteralString] = "select name, checksum from outbox.migrated_functions"
RECORD_MIGRATION: Final = sql.SQL(
    "insert into outbox.migrations (version, name, checksum, breaks_older) values ({}, {}, {}, {});"
)
RECORD_FUNCTION: Final = sql.SQL(
    "insert into outbox.migrated_functions (name, checksum) values ({}, {})\n"
    "on conflict (name) do update set checksum = excluded.checksum, applied_at = excluded.applied_at;"
)
FORGET_FUNCTION: Final = sql.SQL("delete from outbox.migrated_functions where name = {};")
# In the text for psql: refuse a database that is no longer the one that the text was made for.
REFUSE_OTHER: Final = sql.SQL("""
do $$
begin
  if coalesce((select max(version) from outbox.migrations), 0) <> {version} then
    raise exception 'expected a database at migration %, found %; print the SQL again', {version},
      coalesce((select max(version) from outbox.migrations), 0);
  end if;
end
$$;
""")
HEADER: Final = """\
-- What `outbox migrate` would do to a database at migration {before:04d}, to bring it to {after:04d}.
-- Apply it with: psql --no-psqlrc --set ON_ERROR_STOP=1 --file=THIS_FILE
"""


def migrate(database: Database, scripts: Scripts | None = None, *, lock_seconds: float = LOCK_SECONDS) -> Plan:
    """Bring a database to the schema of this code; returns what was done, an empty plan where nothing was to do.

    Args:
        database: An address, or an idle connection.
        scripts: By default those of this package.
        lock_seconds: How long one attempt may wait for a lock, and therefore how long writers may queue up behind it.

    Raises:
        ServerUnsuitable: It can't be reached, is too old or read-only, or the role lacks a privilege.
        SchemaTooNew: The database has migrations that this code doesn't know.
        SchemaConflict: An applied migration was edited since.
        SchemaBusy: Other transactions held the needed locks at every attempt.
        MigrationFailed: The server refused a SQL file. Nothing was changed, as in all the other cases.
    """
    scripts = load() if scripts is None else scripts
    with _opened(database) as connection:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return _migrate_once(connection, scripts, lock_seconds)
            except SchemaBusy:
                if attempt == ATTEMPTS:
                    raise
                time.sleep(lock_seconds * random.uniform(*PAUSE_SHARE))
    raise AssertionError("unreachable")


def plan(database: Database, scripts: Scripts | None = None) -> Plan:
    """What `migrate` would do now; changes nothing, in a read-only transaction.

    Raises:
        ServerUnsuitable: See `migrate`.
        SchemaTooNew: See `migrate`.
        SchemaConflict: See `migrate`.
    """
    scripts = load() if scripts is None else scripts
    with _opened(database) as connection:
        return decide(_read(connection), scripts)


def require_current(database: Database, scripts: Scripts | None = None) -> None:
    """Refuse a database that the code can't work with: one that lacks a migration or a function file of the code.

    While a release is rolled out, the older one goes on with the newer schema: migrations that the code doesn't know
    are no reason unless one says that it breaks older releases, nor is a function file that differs.

    Raises:
        ServerUnsuitable: See `migrate`.
        SchemaMissing: The database holds no outbox schema.
        SchemaOutdated: It must be migrated.
        SchemaTooNew: The database has a migration that breaks this code.
        SchemaConflict: See `migrate`.
    """
    scripts = load() if scripts is None else scripts
    with _opened(database) as connection:
        books = _read(connection)
    if not any(version > scripts.version for version in books.breaking):
        books = replace(books, migrations=books.migrations[: scripts.version])
    if not books.migrations:
        raise SchemaMissing("expected the schema outbox in the database, found none; run: outbox migrate")
    todo = decide(books, scripts)
    if todo.migrations:
        raise SchemaOutdated(
            f"expected the database at migration {todo.after:04d}, found it at {todo.before:04d}; run: outbox migrate"
        )
    missing = sorted({function.name for function in scripts.functions} - dict(books.functions).keys())
    if missing:
        raise SchemaOutdated(
            f"expected the function {missing[0]} in the database, found it missing; run: outbox migrate"
        )


def render(todo: Plan | None = None) -> str:
    """A plan as SQL text for psql, with the same effect as `migrate`; by default, all that an empty database needs."""
    if todo is None:
        todo = decide(Books(), load())
    parts = [
        HEADER.format(before=todo.before, after=todo.after),
        "begin isolation level read committed;\n",
        TAKE_LOCK,
        LIMIT_WAITING_IN_TEXT,
        MAKE_BOOKS,
        REFUSE_OTHER.format(version=todo.before).as_string(None),
    ]
    parts += [
        f"\n-- {script.name}\n\n{_terminated(script.sql)}\n{_record(script).as_string(None)}\n"
        for script in todo.scripts
    ]
    parts += [FORGET_FUNCTION.format(name).as_string(None) + "\n" for name in todo.forgotten]
    parts.append("\ncommit;\n")
    return "".join(parts)


def _migrate_once(connection: psycopg.Connection[Any], scripts: Scripts, lock_seconds: float) -> Plan:
    doing = "the bookkeeping tables"
    try:
        # Nothing to do is the usual case and needs neither the lock nor a privilege to write.
        todo = decide(_read(connection), scripts)
        if todo.is_empty:
            return todo
        with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(READ_COMMITTED)
            cursor.execute(TAKE_LOCK)
            cursor.execute(LIMIT_WAITING, [f"{round(lock_seconds * 1000)}ms"])
            books = _select_books(cursor)
            todo = decide(books, scripts)
            if not todo.is_empty:
                cursor.execute(MAKE_BOOKS)
            for script in todo.scripts:
                doing = script.name
                # Bytes without parameters: a file holds many statements, and % in it is no placeholder.
                cursor.execute(script.sql.encode())
                cursor.execute(_record(script))
            for name in todo.forgotten:
                cursor.execute(FORGET_FUNCTION.format(name))
            doing = "the end of the transaction"
        return todo
    except psycopg.Error as error:
        raise _translated(error, doing) from error


def _read(connection: psycopg.Connection[Any]) -> Books:
    try:
        with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(READ_ONLY)
            return _select_books(cursor)
    except psycopg.Error as error:
        raise _translated(error, "the bookkeeping tables") from error


def _select_books(cursor: psycopg.Cursor[tuple[Any, ...]]) -> Books:
    row = cursor.execute(HAS_BOOKS).fetchone()
    if row is None or not row[0]:
        return Books()
    return Books(
        migrations=tuple(cursor.execute(SELECT_MIGRATIONS).fetchall()),
        functions=tuple(cursor.execute(SELECT_FUNCTIONS).fetchall()),
        breaking=tuple(version for (version,) in cursor.execute(SELECT_BREAKING).fetchall()),
        exist=True,
    )


def _record(script: Migration | Function) -> sql.Composed:
    if isinstance(script, Migration):
        return RECORD_MIGRATION.format(script.version, script.name, script.checksum, script.breaks_older)
    return RECORD_FUNCTION.format(script.name, script.checksum)


def _terminated(text: str) -> str:
    text = text.rstrip()
    return text if text.endswith(";") else f"{text}\n;"


def _translated(error: psycopg.Error, doing: str) -> SchemaError:
    """Our error for the server's; only its primary message is quoted, which names objects, not values."""
    found = error.diag.message_primary or str(error).partition("\n")[0] or type(error).__name__
    match error:
        case psycopg.errors.LockNotAvailable() | psycopg.errors.DeadlockDetected():
            return SchemaBusy(
                f"expected to get the locks for {doing}, found them held by other transactions at every attempt; "
                "end those that stay open long and try again"
            )
        case psycopg.errors.InsufficientPrivilege():
            return ServerUnsuitable(
                f"expected a role with the privileges for {doing}, found: {found}; "
                "use the role that owns the schema outbox, or one that may create schemas and roles"
            )
        case psycopg.errors.ReadOnlySqlTransaction():
            return ServerUnsuitable(f"expected a server that takes writes, found: {found}; name the primary's address")
        case psycopg.OperationalError() if error.sqlstate is None or error.sqlstate.startswith("57P"):
            return ServerUnsuitable(f"expected the connection to last, found it lost during {doing}; try again")
        case _:
            return MigrationFailed(f"expected the server to accept {doing}, found: {found}; nothing was changed")


@contextlib.contextmanager
def _opened(database: Database) -> Iterator[psycopg.Connection[Any]]:
    if isinstance(database, str):
        with connect(database) as connection:
            yield connection
        return
    if database.info.transaction_status != pq.TransactionStatus.IDLE:
        raise SchemaError("expected a connection outside a transaction, found one inside; commit or roll back first")
    require_version(database.info.server_version)
    yield database
