"""Histories of events, written as a relay would have written them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString

import psycopg
from psycopg.types.json import Jsonb

from outbox.emit import emit
from outbox.event import EventId

RELAY: LiteralString = """
insert into outbox.relays (name, version, leased_until) values ('host:1', '0', clock_timestamp()) returning id
"""
RECEIPT: LiteralString = """
insert into outbox.receipts (
  event_id, outcome, reason, attempts, deferrals, result, error, relay_id, dispatched_at, settled_at
)
values (%s, %s, %s, 1, 2, %s, %s, %s, clock_timestamp(), coalesce(%s, clock_timestamp()))
"""
STEP: LiteralString = """
insert into outbox.steps (event_id, position, name, state, detail, relay_id)
select %(id)s, count(*) + 1, %(name)s, %(state)s, %(detail)s, %(relay)s
from outbox.steps as s where s.event_id = %(id)s
"""
ATTEMPT: LiteralString = """
insert into outbox.attempts (event_id, reason, error, context, relay_id) values (%s, 'retry', %s, %s, %s)
"""
WAITING: LiteralString = """
insert into outbox.waiting (event_id, lane, key, sequence, reason, due_at, attempts, deferrals, error)
select e.id, e.lane, e.key, e.sequence, %(reason)s, %(due_at)s::timestamptz, 1, 0, %(error)s
from outbox.events as e where e.id = %(id)s
"""
HOLD: LiteralString = """
insert into outbox.holds (scope, key, held_until, reason, held_by) values (%s, %s, 'infinity', 'token', 'host:1')
"""
FOUND: LiteralString = "insert into social.found_posts (event_id, remote_id, permalink) values (%s, %s, %s)"
BACKDATE: LiteralString = "update outbox.events set created_at = %s where id = %s"
PASS: LiteralString = (
    'update outbox.cursors set seen = pg_current_snapshot(), "window" = pg_current_snapshot(), position = 0'
)

LONG_AGO: Final = datetime.now(UTC) - timedelta(days=31)
"""Longer than events are kept by default."""


class Histories:
    """Writes what a relay writes, in autocommit."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self._relay = self._fetch(RELAY)[0][0]

    def emit(self, type: str = "t", **options: Any) -> EventId:  # noqa: A002
        """A new event."""
        return emit(self.connection, type, options.pop("payload", {}), **options)

    def end(
        self,
        event_id: EventId,
        outcome: str = "dead",
        *,
        reason: str | None = None,
        result: dict[str, Any] | None = None,
        error: str | None = None,
        settled_at: datetime | None = None,
    ) -> EventId:
        """Its receipt."""
        document = None if result is None else Jsonb(result)
        self._run(RECEIPT, [event_id, outcome, reason, document, error, self._relay, settled_at])
        return event_id

    def ended(self, outcome: str = "dead", *, reason: str | None = None, **options: Any) -> EventId:
        """A new event that ended at once."""
        return self.end(self.emit(**options), outcome, reason=reason)

    def backdate(self, event_id: EventId) -> EventId:
        """As if it had been emitted long ago."""
        self._run(BACKDATE, [LONG_AGO, event_id])
        return event_id

    def ended_long_ago(self, *, settled_at: datetime = LONG_AGO, **options: Any) -> EventId:
        """An event that was emitted and ended long ago."""
        return self.backdate(self.end(self.emit(**options), "published", settled_at=settled_at))

    def pass_events(self) -> None:
        """Move every cursor past all that there is."""
        self._run(PASS, None)

    def step(self, event_id: EventId, name: str, state: str, detail: dict[str, Any] | None = None) -> None:
        """A step of its saga."""
        arguments = {"id": event_id, "name": name, "state": state, "detail": Jsonb(detail or {}), "relay": self._relay}
        self._run(STEP, arguments)

    def attempt(self, event_id: EventId, error: str, context: dict[str, Any] | None = None) -> None:
        """A try that failed."""
        self._run(ATTEMPT, [event_id, error, None if context is None else Jsonb(context), self._relay])

    def wait(self, event_id: EventId, reason: str, *, due_at: str = "infinity", error: str | None = None) -> None:
        """It waits."""
        self._run(WAITING, {"id": event_id, "reason": reason, "due_at": due_at, "error": error})

    def hold(self, key: str) -> None:
        """A key is held until somebody releases it; the app where the key is empty."""
        self._run(HOLD, ["key" if key else "app", key])

    def find_post(self, event_id: EventId, remote_id: str, permalink: str | None = None) -> None:
        """Which post it became was found out later."""
        self._run(FOUND, [event_id, remote_id, permalink])

    def count_events(self) -> int:
        """How many events there are."""
        return int(self._fetch("select count(*) from outbox.events")[0][0])

    def ids(self) -> list[int]:
        """All events, oldest first."""
        return [row[0] for row in self._fetch("select id from outbox.events order by id")]

    def fetch(self, query: LiteralString, *arguments: object) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return self.connection.execute(query, arguments).fetchall()

    def _fetch(self, query: LiteralString) -> list[tuple[Any, ...]]:
        return self.connection.execute(query).fetchall()

    def _run(self, query: LiteralString, arguments: Any) -> None:
        self.connection.execute(query, arguments)
