"""What the server counts: transactions and row versions of one database, WAL of the whole cluster."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Final, LiteralString

from psycopg import Connection
from psycopg.rows import TupleRow

from schema.server import connect

QUIET_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.02

STATISTICS_14_SECONDS: Final = 1.0
"""PostgreSQL 14 hands statistics to a process of its own, which makes them known twice a second."""

HOLDER: Final = "outbox-bench-holder"
"""The connection that shows that a run is alive; it does nothing."""

COUNT_OTHERS: LiteralString = """
select count(*) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
  and application_name <> 'outbox-bench-holder'
"""

READ_WAL: LiteralString = "select (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint"

READ_STATEMENTS: LiteralString = """
select xact_commit + xact_rollback from pg_stat_database where datname = current_database()
"""

READ_TABLES: LiteralString = """
select schemaname || '.' || relname, n_tup_ins, n_tup_upd, n_tup_del, n_dead_tup
from pg_stat_user_tables
where relname not in ('migrations', 'migrated_functions')
order by 1
"""


@dataclass(frozen=True, slots=True)
class TableChanges:
    """What became of a table's rows. Autovacuum may have taken dead ones away; it does not change the other counts."""

    inserted: int
    updated: int
    deleted: int
    dead: int

    def since(self, before: TableChanges) -> TableChanges:
        """Return what came between two readings."""
        return TableChanges(
            self.inserted - before.inserted,
            self.updated - before.updated,
            self.deleted - before.deleted,
            max(0, self.dead - before.dead),
        )


_NOTHING: Final = TableChanges(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Reading:
    """The counts at one moment."""

    statements: int
    tables: Mapping[str, TableChanges]


@dataclass(frozen=True, slots=True)
class Cost:
    """What some events cost.

    Attributes:
        events: How many.
        seconds: How long they took.
        cpu_microseconds: Of the relay's Python process, an event; None where no relay ran.
        wal_bytes: Of the whole cluster while it was measured, an event: on a busy server, others' too.
        statements: Transactions that ended in the scratch database, an event. In autocommit, as all of a relay's are,
            that is statements. From before the relay's start to after its end.
        tables: What became of each table's rows, where anything did.
    """

    events: int
    seconds: float
    cpu_microseconds: float | None
    wal_bytes: float
    statements: float
    tables: Mapping[str, TableChanges]

    @property
    def events_per_second(self) -> float:
        """The rate."""
        return self.events / self.seconds


def read(dsn: str) -> Reading:
    """Read the counts of a database once everybody else has left it: what they did is counted by then."""
    with connect(dsn) as connection:
        _await_quiet(connection)
        row = connection.execute(READ_STATEMENTS).fetchone()
        assert row is not None
        tables = {name: TableChanges(*counts) for name, *counts in connection.execute(READ_TABLES).fetchall()}
        return Reading(row[0], tables)


def changes(before: Reading, after: Reading) -> Mapping[str, TableChanges]:
    """Return the tables whose rows changed between two readings."""
    between = {name: table.since(before.tables.get(name, _NOTHING)) for name, table in after.tables.items()}
    return {name: table for name, table in between.items() if table != _NOTHING}


def total_changes(several: Iterable[Mapping[str, TableChanges]]) -> Mapping[str, TableChanges]:
    """Return what became of each table's rows over several spans of time."""
    total: dict[str, TableChanges] = {}
    for tables in several:
        for name, table in tables.items():
            so_far = total.get(name, _NOTHING)
            total[name] = TableChanges(*map(sum, zip(astuple(so_far), astuple(table), strict=True)))
    return total


def _await_quiet(connection: Connection[TupleRow]) -> None:
    deadline = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < deadline:
        row = connection.execute(COUNT_OTHERS).fetchone()
        if row is not None and row[0] == 0:
            break
        time.sleep(POLL_SECONDS)
    if connection.info.server_version < 150000:
        time.sleep(STATISTICS_14_SECONDS)
