"""A person's side of the restore guard: what would be published again, and letting relays work again.

Verifying works as a relay incarnation of its own: what it finds is written by the statement that writes every outcome,
behind the same fence, while all other relays stand still.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import LiteralString

import anyio
from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row

from outbox import cluster, lease
from outbox.batch import Batch, StepRow, Try, Wait
from outbox.cluster import FOREIGN_XIDS, REASONS, Evidence
from outbox.errors import Refused
from outbox.event import LANE_COUNT, Event, EventId, RelayId
from outbox.ledger import Step, StepState, load_steps, open_intent
from outbox.outcome import Reason
from outbox.refusals import refusals
from outbox.settle import settle

LOAD_STATE: LiteralString = """
select c.verify_only_since, c.verify_only_reason, c.known_until, c.must_rebase, c.verified_at
from outbox.cluster as c
"""

FIND_CANDIDATES: LiteralString = """
select
  w.reason, w.due_at = 'infinity', coalesce(w.attempts, 0), coalesce(w.deferrals, 0),
  e.id, e.lane, e.key, e.sequence, e.type, e.payload, e.headers, e.publish_at, e.expires_at, e.replay_of, e.created_at
from outbox.events as e
left join outbox.waiting as w on w.event_id = e.id
where e.id > %(after)s and not exists (select from outbox.receipts as r where r.event_id = e.id)
order by e.id
limit %(limit)s
"""

COUNT_CANDIDATES: LiteralString = """
select count(*) from outbox.events as e where not exists (select from outbox.receipts as r where r.event_id = e.id)
"""

TAKE_LANES: LiteralString = """
update outbox.lanes as l set relay_id = %(relay_id)s
where l.relay_id is null
  or exists (select from outbox.relays as owner where owner.id = l.relay_id and owner.retired_at is not null)
"""
OWNERS: LiteralString = """
select r.name, count(*) from outbox.lanes as l join outbox.relays as r on r.id = l.relay_id
where l.relay_id <> %(relay_id)s group by r.name
"""
BE_PATIENT: LiteralString = "set statement_timeout = '1h'"
MARK_VERIFIED: LiteralString = "select outbox.mark_verified(%(reason)s)"
END_VERIFY_ONLY: LiteralString = "select outbox.end_verify_only(%(reason)s)"

PAGE = 500
LEASE_SECONDS = 60.0
OTHERS_STOP_SECONDS = 60.0
"""Relays notice within ten seconds, or their lease of 15 runs out."""


@dataclass(frozen=True, slots=True)
class RecoveryState:
    """Whether relays are held to verifying; None where they are not.

    Attributes:
        verify_only_since: Since when.
        verify_only_reason: Why.
        known_until: What the log knows of is whole up to this instant.
        must_rebase: Its xids are another cluster's and are given anew at the end.
        verified_at: When all candidates had been looked for.
    """

    verify_only_since: datetime | None
    verify_only_reason: str | None
    known_until: datetime | None
    must_rebase: bool
    verified_at: datetime | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An event without a receipt: relays would handle it, perhaps again.

    Attributes:
        event: The event.
        reason: Why it waits; None where it does not.
        waits_for_ever: For another event or for a person.
        attempts: Tries that failed.
        deferrals: Waits that were no failure.
        steps: What the log knows of its saga.
    """

    event: Event
    reason: Reason | None
    waits_for_ever: bool
    attempts: int
    deferrals: int
    steps: list[Step]

    @property
    def waits_for_a_person(self) -> bool:
        """No relay goes on with it by itself."""
        return self.reason is Reason.UNKNOWN and self.waits_for_ever

    @property
    def trace(self) -> str:
        """What the log knows of it, in a word."""
        if self.waits_for_a_person:
            return "waits for a person"
        if open_intent(self.steps) is not None:
            return "an intent without an answer"
        return "prepared" if self.steps else "no trace"


async def load_state(connection: AsyncConnection[TupleRow]) -> RecoveryState | None:
    """Return why relays may only verify; None while nobody has held them to it. Reads only."""
    async with connection.cursor(row_factory=class_row(RecoveryState)) as cursor:
        state = await (await cursor.execute(LOAD_STATE)).fetchone()
    return state if state is not None and state.verify_only_since is not None else None


async def find_cause(connection: AsyncConnection[TupleRow]) -> str | None:
    """Return why the next relay that looks will have all stand still; None where it will not. Reads only."""
    found = await cluster.compare(connection, Evidence())
    return REASONS.get(found.finding)


async def stand_still(connection: AsyncConnection[TupleRow], *, dry_run: bool = False) -> RecoveryState | None:
    """Hold relays to verifying where the next one that looks will (with `dry_run`, do not), and return why they are.

    None where relays may work.
    """
    state = await load_state(connection)
    if state is not None:
        return state
    found = await cluster.compare(connection, Evidence())
    if found.finding not in REASONS:
        return None
    async with connection.transaction(force_rollback=dry_run):
        must_rebase = found.finding in FOREIGN_XIDS
        await cluster.begin_verify_only(connection, REASONS[found.finding], must_rebase=must_rebase)
        return await load_state(connection)


async def find_candidates(
    connection: AsyncConnection[TupleRow], *, after: EventId | None = None, limit: int = PAGE
) -> list[Candidate]:
    """Return events without a receipt in the order of their ids, at most so many, after an id."""
    rows = await (await connection.execute(FIND_CANDIDATES, {"after": after or 0, "limit": limit})).fetchall()
    steps = await load_steps(connection, [EventId(row[4]) for row in rows])
    return [
        Candidate(
            Event(*row[4:]), Reason(row[0]) if row[0] else None, bool(row[1]), row[2], row[3], steps.get(row[4], [])
        )
        for row in rows
    ]


async def count_candidates(connection: AsyncConnection[TupleRow]) -> int:
    """Return how many events have no receipt."""
    [[count]] = await (await connection.execute(COUNT_CANDIDATES)).fetchall()
    return int(count)


async def every_candidate(connection: AsyncConnection[TupleRow]) -> AsyncIterator[Candidate]:
    """Give all events without a receipt, a page at a time."""
    after: EventId | None = None
    while page := await find_candidates(connection, after=after):
        for candidate in page:
            yield candidate
        after = page[-1].event.id


async def be_patient(connection: AsyncConnection[TupleRow]) -> None:
    """A long log takes its time: statements of this connection may last an hour."""
    await connection.execute(BE_PATIENT)


async def mark_verified(connection: AsyncConnection[TupleRow], reason: str | None = None) -> None:
    """Note that all candidates were looked for, and why. Raises Refused."""
    async with refusals():
        await connection.execute(MARK_VERIFIED, {"reason": reason})


async def end_verify_only(
    connection: AsyncConnection[TupleRow], reason: str | None = None, *, dry_run: bool = False
) -> int:
    """Let relays work again (with `dry_run`, do not), and return how many events got a new xid. Raises Refused."""
    async with refusals(), connection.transaction(force_rollback=dry_run):
        row = await (await connection.execute(END_VERIFY_ONLY, {"reason": reason})).fetchone()
    assert row is not None
    return int(row[0])


@dataclass(slots=True)
class Recoverer:
    """An incarnation that writes what verifying found, and handles nothing."""

    connection: AsyncConnection[TupleRow]
    relay_id: RelayId
    _renewed_at: float = field(default_factory=time.monotonic)

    async def park(self, candidate: Candidate, why: str) -> None:
        """Have an event wait for a person: it may be live. Raises LeaseLost."""
        wait = Wait(candidate.event, Reason.UNKNOWN, math.inf, candidate.attempts, candidate.deferrals, why)
        tried = Try(candidate.event, Reason.UNKNOWN.value, why, {"recovery": True})
        await self._settle(Batch(waits=[wait], tries=[tried]))

    async def found_live(self, candidate: Candidate, step_name: str, remote_id: str | None) -> None:
        """Write the step that the restore forgot: its relay only writes the receipt. Raises LeaseLost.

        `remote_id` is None where nobody can tell which post it is.
        """
        position = candidate.steps[-1].position + 1 if candidate.steps else 1
        step = Step(position, step_name, StepState.DONE, {"remote_id": remote_id, "verified": "recovered"})
        await self._settle(Batch(steps=[StepRow(candidate.event, step, None)]))

    async def renew(self) -> None:
        """Renew the lease when it is time. Raises LeaseLost."""
        if time.monotonic() - self._renewed_at > LEASE_SECONDS / 3:
            self._renewed_at = time.monotonic()
            await lease.renew(self.connection, self.relay_id, lease_seconds=LEASE_SECONDS)

    async def _settle(self, batch: Batch) -> None:
        await self.renew()
        await settle(self.connection, self.relay_id, batch)


@asynccontextmanager
async def open_recoverer(connection: AsyncConnection[TupleRow], *, name: str, version: str) -> AsyncIterator[Recoverer]:
    """Join, take all lanes once the relays have let go of them, and leave at the end.

    Raises:
        Refused: Another relay still owns lanes after a minute.
    """
    relay_id = await lease.join(connection, name=name, version=version, lease_seconds=LEASE_SECONDS)
    try:
        deadline = time.monotonic() + OTHERS_STOP_SECONDS
        while True:
            await lease.retire_dead(connection)
            await connection.execute(TAKE_LANES, {"relay_id": relay_id})
            owners = await (await connection.execute(OWNERS, {"relay_id": relay_id})).fetchall()
            if not owners:
                break
            if time.monotonic() > deadline:
                names = ", ".join(f"{owner} ({count} of {LANE_COUNT} lanes)" for owner, count in owners)
                raise Refused(f"expected all relays to stand still, found at work: {names}; stop them, and try again")
            await lease.renew(connection, relay_id, lease_seconds=LEASE_SECONDS)
            await anyio.sleep(1)
        yield Recoverer(connection, relay_id)
    finally:
        with anyio.move_on_after(5, shield=True):
            await lease.leave(connection, relay_id)
