"""Looks at the database while the stories are published: what an operator's role can see, a few times a second."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row

from outbox.event import EventId
from publisher.trail import PUBLISH, RECONCILE
from relay.demo.dispatches import Dispatches

LIST_JOBS: LiteralString = """
select
  j.id, j.variant_id, j.platform || ':' || j.account as key, j.status, j.reason, j.attempt as attempts, j.deferrals,
  j.last_error as error, e.sequence, e.publish_at, j.scheduled_at as due_at, j.settled_at,
  pg_xact_commit_timestamp(e.xid::xid) as committed_at,
  exists (
    select from outbox.steps as s
    where s.event_id = j.id and s.name = %(publish)s and s.state = 'done' and s.detail ->> 'verified' = 'reconciled'
  ) as is_reconciled
from social.publish_jobs as j
join outbox.events as e on e.id = j.id
order by j.id
"""

LIST_HAPPENINGS: LiteralString = """
select a.event_id, a.created_at as at, a.reason as what, a.error as words from outbox.attempts as a
union all
select s.event_id, s.created_at, 'reconciled', 'looked for and found live: it is not published again'
from outbox.steps as s
where s.name = %(reconcile)s and s.detail ->> 'verdict' = 'live'
union all
select r.event_id, r.settled_at, 'dead', r.error from outbox.receipts as r where r.outcome = 'dead'
order by at desc
limit %(limit)s
"""

ENDED = frozenset({"published", "dead", "cancelled", "expired"})


@dataclass(frozen=True, slots=True)
class Job:
    """One event of a variant and how it stands; `due_at` is its publish_at, or when it was emitted."""

    id: EventId
    variant_id: UUID
    key: str
    status: str
    reason: str | None
    attempts: int
    deferrals: int
    error: str | None
    sequence: str | None
    publish_at: datetime | None
    due_at: datetime
    settled_at: datetime | None
    committed_at: datetime
    is_reconciled: bool

    @property
    def has_ended(self) -> bool:
        """It has a receipt."""
        return self.status in ENDED

    @property
    def latency_seconds(self) -> float | None:
        """From when it was due to its receipt; None before."""
        return None if self.settled_at is None else (self.settled_at - self.due_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that did not go straight on."""

    event_id: EventId
    at: datetime
    what: str
    words: str


@dataclass(slots=True)
class Watch:
    """Looks again and again, and remembers what waited.

    Attributes:
        connection: Used by nothing else.
        dispatches: The handler's calls.
        held_up: Events that were seen waiting before they were dispatched for the first time.
    """

    connection: AsyncConnection[TupleRow]
    dispatches: Dispatches
    held_up: set[EventId] = field(default_factory=set)

    async def jobs(self) -> list[Job]:
        """Return all jobs, oldest first."""
        async with self.connection.cursor(row_factory=class_row(Job)) as cursor:
            jobs = await (await cursor.execute(LIST_JOBS, {"publish": PUBLISH})).fetchall()
        dispatched = {each.event_id for each in self.dispatches.ended}
        self.held_up |= {job.id for job in jobs if job.status == "waiting" and job.id not in dispatched}
        return jobs

    async def happenings(self, limit: int) -> list[Happening]:
        """Return the last ones, oldest first."""
        async with self.connection.cursor(row_factory=class_row(Happening)) as cursor:
            rows = await (await cursor.execute(LIST_HAPPENINGS, {"reconcile": RECONCILE, "limit": limit})).fetchall()
        return rows[::-1]

    def dispatch_seconds(self, jobs: Iterable[Job]) -> list[float]:
        """Return how long commits took to reach the handler, where nothing but the relay was in between.

        Left out are stories with a time or a sequence of their own, and those whose account was held or at work.
        """
        immediate = [
            job for job in jobs if job.publish_at is None and job.sequence is None and job.id not in self.held_up
        ]
        delays = [self.dispatches.delay_seconds(job.id, job.committed_at.timestamp()) for job in immediate]
        return [delay for delay in delays if delay is not None]
