"""What people decide about irreversible calls of which nobody knows what became: find them, decide, load for the relay.

    intent -> call -> (no answer) -> looks that tell nothing -> waits as unknown, for a person
                                                                      | outbox.resolve()
                                       done, verified "person"  <-----+----->  refused, verified "person"
                                       and on to the receipt                   and the call may be made once more

The relay writes the step, behind its fence; a person only decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row

from outbox.event import EventId, JsonObject
from outbox.ledger import Step, StepState
from outbox.refusals import refusals

RESOLVE: LiteralString = """
select outbox.resolve(%(id)s, %(published)s, %(remote_id)s, %(reason)s, %(force)s)
"""

LOAD: LiteralString = """
select distinct on (d.event_id) d.event_id, d.position, d.name, d.published, d.remote_id, d.reason, d.requested_by
from outbox.resolutions as d
where d.event_id = any (%(event_ids)s::bigint[])
order by d.event_id, d.published desc, d.position desc
"""
"""That something is live outweighs all else; then, the last intent."""

FIND_UNKNOWN: LiteralString = """
select
  w.event_id, e.type, e.key, w.waiting_since, nullif(w.due_at, 'infinity') as due_at, w.error,
  i.position, i.name, i.created_at as called_at, i.detail,
  (select count(*) from outbox.steps as s where s.event_id = w.event_id and s.position > i.position) as evidence_count,
  d.published as resolved_as_published, d.requested_by as resolved_by
from outbox.waiting as w
join outbox.events as e on e.id = w.event_id
left join lateral (
  select s.position, s.name, s.created_at, s.detail
  from outbox.steps as s
  where s.event_id = w.event_id and s.state = 'intent'
  order by s.position desc
  limit 1
) as i on true
left join lateral (
  select r.published, r.requested_by
  from outbox.resolutions as r
  where r.event_id = w.event_id and not exists (
    select from outbox.steps as s where s.event_id = r.event_id and s.name = r.name and s.position > r.position
  )
  order by r.position desc
  limit 1
) as d on true
where w.reason = 'unknown' and w.event_id > %(after)s and (not %(for_a_person)s or w.due_at = 'infinity')
order by w.event_id
limit %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Resolution:
    """A person's decision about one intent, or about an event that is in doubt without one.

    Attributes:
        position: The intent; without one the last step, 0 where there is none.
        name: The intent's step; publish without one.
        published: It happened; else it certainly did not.
        remote_id: What went live; None where nobody can tell its id.
        reason: Why.
        requested_by: Who decided.
    """

    position: int
    name: str
    published: bool
    remote_id: str | None
    reason: str | None
    requested_by: str

    @property
    def detail(self) -> JsonObject:
        """The detail of the step that says so."""
        said = {"verified": "person", "by": self.requested_by, "why": self.reason}
        return {"remote_id": self.remote_id, **said} if self.published else said

    def applies_to(self, steps: Sequence[Step]) -> bool:
        """Whether it says more than the steps: what is live is, whatever was found since; else nothing was since."""
        if self.published:
            return not any(step.name == self.name and step.state is StepState.DONE for step in steps)
        return not any(step.name == self.name and step.position > self.position for step in steps)


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event of which nobody knows whether it is live.

    Attributes:
        event_id: Which.
        type: Its type.
        key: Its key.
        waiting_since: Since when it waits.
        due_at: When the relay looks again; None where it waits for a person.
        error: One sentence: what is known, what is not.
        position: The last intent; None where there is none: recovery had it wait, or its handler.
        name: Its step.
        called_at: When it was written, just before the call.
        detail: What was to be published, and what was live before.
        evidence_count: Steps since: answers, looks.
        resolved_as_published: What a person has decided and no step says yet; None where nobody has.
        resolved_by: Who.
    """

    event_id: EventId
    type: str
    key: str | None
    waiting_since: datetime
    due_at: datetime | None
    error: str | None
    position: int | None
    name: str | None
    called_at: datetime | None
    detail: JsonObject | None
    evidence_count: int
    resolved_as_published: bool | None
    resolved_by: str | None


async def resolve(
    connection: AsyncConnection[TupleRow],
    event_id: EventId,
    *,
    published: bool,
    remote_id: str | None = None,
    reason: str | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> None:
    """Decide what became of an event's open call; the relay goes on from that at once.

    Args:
        connection: Where.
        event_id: Which.
        published: It happened; else it certainly did not, and may be tried again.
        remote_id: What went live; None where nobody can tell its id.
        reason: Why, for those who read it later.
        force: Believe that it did not happen even while the relay still looks.
        dry_run: Do all that and roll it back.

    Raises:
        Refused: There is nothing to decide, the relay still looks, the id is another event's, or somebody has decided
            otherwise.
    """
    arguments = {"id": event_id, "published": published, "remote_id": remote_id, "reason": reason, "force": force}
    async with refusals(), connection.transaction(force_rollback=dry_run):
        await connection.execute(RESOLVE, arguments)


async def load_resolutions(
    connection: AsyncConnection[TupleRow], event_ids: Sequence[EventId]
) -> dict[EventId, Resolution]:
    """Return what people have decided about some events; of each the decision that counts most."""
    rows = await (await connection.execute(LOAD, {"event_ids": list(event_ids)})).fetchall()
    return {event_id: Resolution(*rest) for event_id, *rest in rows}


async def find_unknown(
    connection: AsyncConnection[TupleRow], *, for_a_person: bool = False, after: int = 0, limit: int = 50
) -> list[UnknownEvent]:
    """Return the events that wait as unknown, oldest first; only those that wait for a person, where asked."""
    arguments = {"for_a_person": for_a_person, "after": after, "limit": limit}
    async with connection.cursor(row_factory=class_row(UnknownEvent)) as cursor:
        return await (await cursor.execute(FIND_UNKNOWN, arguments)).fetchall()
