"""Whether this is the cluster that the log belongs to, and has lost nothing. Xids mean nothing elsewhere.

| what happened                              | what is found        | what a relay does                                |
|--------------------------------------------|----------------------|--------------------------------------------------|
| crash, restart, immediate shutdown         | same                 | goes on                                          |
| failover that kept everything              | promoted             | goes on where a relay lived through it, see below|
| failover that lost commits                 | promoted, and lost   | verifies only                                    |
| restore to an earlier point                | promoted, or lost    | verifies only                                    |
| pg_upgrade                                 | upgraded             | goes on                                          |
| dump and restore, logical replication      | copied or ahead      | verifies only; the xids are given anew           |
| pg_createsubscriber, pg_resetwal           | moved                | verifies only                                    |
| create database ... template               | cloned               | verifies only                                    |
| a snapshot of the file system is put back  | same, or lost        | verifies only where a relay lived through it     |

Commits survive in order: where the last one that a relay heard of is still there, so are all before it. So a relay
that lived through a failover can vouch for it, or knows of a loss; one that begins afterwards can't tell a failover
from a restore, and asks a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.event import EventId, RelayId


class Finding(StrEnum):
    """What outbox.compare_cluster() finds; its header tells them apart."""

    NEW = "new"
    SAME = "same"
    PROMOTED = "promoted"
    UPGRADED = "upgraded"
    COPIED = "copied"
    AHEAD = "ahead"
    MOVED = "moved"
    CLONED = "cloned"


FOREIGN_XIDS = frozenset({Finding.COPIED, Finding.AHEAD})
"""Where the log needs new xids before anybody reads it."""

REASONS = {
    Finding.COPIED: "the log was copied into this database: a dump was restored, or logical replication brought it",
    Finding.AHEAD: "the log carries transaction ids that this cluster has not reached: it comes from another cluster",
    Finding.MOVED: "the log's cluster has another identity than before: it was copied, or pg_resetwal was run",
    Finding.CLONED: "this database is a copy of another one in the same cluster",
    Finding.PROMOTED: (
        "the cluster was restored to an earlier point, or failed over, and no relay that lived through it says that "
        "nothing is missing"
    ),
}
"""Why relays only verify, of each finding for which they do; of a promotion, where none of them vouches."""

COMPARE: LiteralString = """
select
  c.finding, c.verify_only_since, c.verify_only_reason,
  (
    %(relay_id)s::bigint is null
    or exists (
      select from outbox.relays as r
      where r.id = %(relay_id)s and r.leased_until >= to_timestamp(%(leased_until)s::float8) - interval '1 second'
    )
  )
  and (
    %(event_id)s::bigint is null
    or exists (select from outbox.receipts as r where r.event_id = %(event_id)s)
    or exists (select from outbox.waiting as w where w.event_id = %(event_id)s)
  )
  and (
    %(stepped_id)s::bigint is null
    or exists (select from outbox.steps as s where s.event_id = %(stepped_id)s and s.position = %(position)s)
  )
from outbox.compare_cluster() as c
"""

RECOGNISE: LiteralString = "select outbox.recognise_cluster()"
BEGIN_VERIFY_ONLY: LiteralString = "select outbox.begin_verify_only(%(reason)s, %(must_rebase)s)"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a relay process has heard to be committed, last of all; None where there was nothing of the kind.

    Attributes:
        relay_id: Its last incarnation.
        leased_until: Until when that one's lease was renewed at least, in seconds of the epoch.
        event_id: The event that it settled last.
        stepped: The step that it wrote last: event and position.
    """

    relay_id: RelayId | None = None
    leased_until: float | None = None
    event_id: EventId | None = None
    stepped: tuple[EventId, int] | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a look at the cluster found.

    Attributes:
        finding: How it compares with the one that the log belongs to.
        verify_only_since: Since when relays may only verify; None while they may work.
        verify_only_reason: Why.
        evidence_is_there: Everything that the relay knows to be committed is there.
    """

    finding: Finding
    verify_only_since: datetime | None
    verify_only_reason: str | None
    evidence_is_there: bool


async def compare(connection: AsyncConnection[TupleRow], evidence: Evidence) -> Comparison:
    """Look at the cluster, and for what is known to be committed."""
    stepped_id, position = evidence.stepped or (None, None)
    arguments = {
        "relay_id": evidence.relay_id,
        "leased_until": evidence.leased_until,
        "event_id": evidence.event_id,
        "stepped_id": stepped_id,
        "position": position,
    }
    row = await (await connection.execute(COMPARE, arguments)).fetchone()
    assert row is not None
    return Comparison(Finding(row[0]), *row[1:])


async def recognise(connection: AsyncConnection[TupleRow]) -> None:
    """Take this cluster for the right one from now on."""
    await connection.execute(RECOGNISE)


async def begin_verify_only(connection: AsyncConnection[TupleRow], reason: str, *, must_rebase: bool) -> None:
    """Hold all relays to verifying until a person confirms."""
    await connection.execute(BEGIN_VERIFY_ONLY, {"reason": reason, "must_rebase": must_rebase})
