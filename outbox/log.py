"""The log reader: every committed event exactly once, in order, without a write, a lock or a gap.

Ids do not commit in order, so a cursor by id loses events; and a cursor held back to the oldest running transaction
stalls behind whoever forgot to commit. The log is read as PgQ reads it, by what two snapshots tell apart:

    a window = what is visible in `window` and was not visible in `seen`

        seen       xmin ....... running xids ....... xmax
        window           xmin ........ running xids ......... xmax
                              |                     |        |
                              stragglers: running   new: at or above xmax(seen),
                              in seen, ended by     below xmax(window),
                              window                visible in window

Both halves are range scans of the index on `xid`; their union is sorted by `id`. When a window has been read out,
`seen := window`, `window := now`. Two things that look true and are not:

- A snapshot's xmax is one past the highest *completed* xid: running transactions may lie at or above it. So nothing
  follows about ids from "xid >= xmax", and no lower bound on `id` may be put into the scan.
- Order inside a window is by `id`, not by `(xid, id)`: a transaction with a low xid may emit late.

After down time one window may hold millions of events. It is worked through by position inside the window, never by
moving the snapshot: its ids are listed once, 8 bytes each, and the rows fetched by primary key.

`offset 0` in the statements keeps the planner from walking the whole primary key to save a sort.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from sys import byteorder
from typing import Any, LiteralString

from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import TupleRow

from outbox.event import Event, EventId, Lane

NOTHING = "1:1:"
"""The snapshot in which nothing is visible: where a new cursor begins."""

READ_NEXT_WINDOW: LiteralString = """
with w as materialized (select pg_current_snapshot() as snapshot)
select
  w.snapshot::text,
  e.id, e.lane, e.key, e.sequence, e.type, e.payload, e.headers, e.publish_at, e.expires_at, e.replay_of, e.created_at
from w
left join lateral (
  (
    select s.* from outbox.events as s
    where s.xid = any (array(
      select x from pg_snapshot_xip(%(seen)s::pg_snapshot) as x where pg_visible_in_snapshot(x, w.snapshot)
    )) and s.lane = any (%(lanes)s::smallint[])
    offset 0
  )
  union all
  (
    select n.* from outbox.events as n
    where n.xid >= pg_snapshot_xmax(%(seen)s::pg_snapshot) and n.xid < pg_snapshot_xmax(w.snapshot)
      and pg_visible_in_snapshot(n.xid, w.snapshot) and n.lane = any (%(lanes)s::smallint[])
    offset 0
  )
  order by id
  limit %(limit)s
) as e on true
"""
"""One round trip: the new window, and its first events. At least one row, with nulls where the window is empty."""

LIST_WINDOW: LiteralString = """
with w as materialized (select %(window)s::pg_snapshot as snapshot)
select string_agg(int8send(e.id), ''::bytea order by e.id)
from w
cross join lateral (
  (
    select s.id from outbox.events as s
    where s.xid = any (array(
      select x from pg_snapshot_xip(%(seen)s::pg_snapshot) as x where pg_visible_in_snapshot(x, w.snapshot)
    )) and s.lane = any (%(lanes)s::smallint[])
    offset 0
  )
  union all
  (
    select n.id from outbox.events as n
    where n.xid >= pg_snapshot_xmax(%(seen)s::pg_snapshot) and n.xid < pg_snapshot_xmax(w.snapshot)
      and pg_visible_in_snapshot(n.xid, w.snapshot) and n.lane = any (%(lanes)s::smallint[])
    offset 0
  )
) as e
where e.id > %(position)s
  and (not %(unsettled)s or (
    not exists (select from outbox.receipts as r where r.event_id = e.id)
    and not exists (select from outbox.waiting as p where p.event_id = e.id)
  ))
"""
"""The ids of a window as one value of 8 bytes each; only those without a receipt or a waiting row where `unsettled`."""

FETCH: LiteralString = """
select
  e.id, e.lane, e.key, e.sequence, e.type, e.payload, e.headers, e.publish_at, e.expires_at, e.replay_of, e.created_at
from outbox.events as e
where e.id = any (%(ids)s::bigint[])
order by e.id
"""

TAKE_SNAPSHOT: LiteralString = "select pg_current_snapshot()::text"

LOAD_CURSORS: LiteralString = """
select c.seen::text, c."window"::text, c.position, array_agg(c.lane order by c.lane)
from outbox.cursors as c
where c.lane = any (%(lanes)s)
group by c.seen::text, c."window"::text, c.position
"""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a log has been read: two snapshots as PostgreSQL prints them, and the last id inside the window."""

    seen: str = NOTHING
    window: str = NOTHING
    position: int = 0


@dataclass(slots=True)
class LogReader:
    """Reads the log of some lanes that share a cursor, a slice at a time. Not for concurrent use.

    What `read` has returned is *in hand* until `settled` is told of it; `low_water` is the cursor from which a
    successor finds all that is in hand now, and nothing lost.

    The first two windows may hold what a predecessor has settled already (it read further than it could save):
    there, and only there, events with a receipt or a waiting row are skipped.

    Attributes:
        connection: In autocommit: a window is read outside any transaction of ours, or it would hold back the
            horizon of the whole cluster.
        lanes: The lanes.
        cursor: Where to begin; then, how far has been read.
        slice_count: The most events that one `read` returns.
    """

    connection: AsyncConnection[TupleRow]
    lanes: Sequence[Lane]
    cursor: Cursor
    slice_count: int = 1000
    _listed: array[int] = field(default_factory=lambda: array("q"))
    _listed_position: int = 0
    _windows_to_catch_up: int = 2
    _low_water: LowWater = field(init=False)
    _reading: AsyncCursor[TupleRow] = field(init=False)
    _lanes_literal: str = field(init=False)

    def __post_init__(self) -> None:
        self._low_water = LowWater(self.cursor)
        self._lanes_literal = _literal(self.lanes)  # once, not at every look
        self._reading = self.connection.cursor(binary=True)

    async def read(self) -> list[Event]:
        """Return the next events in order, at most a slice; none where there is nothing new.

        Raises:
            psycopg.Error: The cursor has not moved: read again, on this connection or with another reader.
        """
        if self._listed:
            return await self._fetch_slice()
        if self._windows_to_catch_up:
            return await self._catch_up()
        return await self._read_next_window()

    @property
    def catching_up(self) -> bool:
        """Whether what is read now may have been begun by a predecessor, so that it may have steps."""
        return self._windows_to_catch_up > 0

    @property
    def unread_count(self) -> int:
        """How many events of the current window are listed and not yet read."""
        return len(self._listed) - self._listed_position

    @property
    def in_hand_count(self) -> int:
        """How many events have been read and not settled."""
        return self._low_water.in_hand_count

    def oldest_in_hand_at(self) -> datetime | None:
        """Return when the oldest event in hand was emitted; of the first window that has one in hand."""
        return self._low_water.oldest_at()

    def settled(self, event_ids: Iterable[EventId]) -> None:
        """Take note that these events have a receipt or a waiting row, durably. Others' ids are passed over."""
        self._low_water.settled(event_ids)

    def low_water(self) -> Cursor:
        """Return the cursor that may be saved: everything before it is settled."""
        return self._low_water.cursor()

    async def _read_next_window(self) -> list[Event]:
        seen = self.cursor.window
        rows = await self._rows(
            READ_NEXT_WINDOW, {"seen": seen, "lanes": self._lanes_literal, "limit": self.slice_count + 1}
        )
        window: str = rows[0][0]
        if rows[0][1] is None:
            self._begin(seen, window)
            return []
        events = [Event._make(row[1:]) for row in rows]
        if len(events) > self.slice_count:
            events.pop()
            # Listed before anything moves: a failure here leaves the cursor where it was.
            self._listed = await self._list(Cursor(seen, window, events[-1].id), unsettled=False)
        self._begin(seen, window)
        self._hand_out(events)
        return events

    async def _catch_up(self) -> list[Event]:
        if self._windows_to_catch_up == 1:
            window: str = (await self._rows(TAKE_SNAPSHOT, {}))[0][0]
            ahead = Cursor(self.cursor.window, window, 0)
        else:
            ahead = self.cursor
        listed = await self._list(ahead, unsettled=True)
        if ahead is not self.cursor:
            self._begin(ahead.seen, ahead.window)
        self._listed = listed
        if listed:
            return await self._fetch_slice()
        self._windows_to_catch_up -= 1
        return await self._catch_up() if self._windows_to_catch_up else []

    async def _list(self, cursor: Cursor, *, unsettled: bool) -> array[int]:
        arguments = {
            "seen": cursor.seen,
            "window": cursor.window,
            "position": cursor.position,
            "lanes": self._lanes_literal,
            "unsettled": unsettled,
        }
        rows = await self._rows(LIST_WINDOW, arguments)
        ids = array("q", rows[0][0] or b"")
        if byteorder == "little":
            ids.byteswap()
        return ids

    async def _fetch_slice(self) -> list[Event]:
        upper = self._listed_position + self.slice_count
        ids = _literal(self._listed[self._listed_position : upper])
        events = [Event._make(row) for row in await self._rows(FETCH, {"ids": ids})]
        self._listed_position = upper
        self._hand_out(events)
        if upper >= len(self._listed):
            self._listed = array("q")
            self._listed_position = 0
            self._windows_to_catch_up = max(0, self._windows_to_catch_up - 1)
        return events

    async def _rows(self, statement: LiteralString, arguments: dict[str, Any]) -> list[TupleRow]:
        await self._reading.execute(statement, arguments, prepare=True)
        return await self._reading.fetchall()

    def _begin(self, seen: str, window: str) -> None:
        self.cursor = Cursor(seen, window, 0)
        self._low_water.begin(seen, window)

    def _hand_out(self, events: list[Event]) -> None:
        if events:
            self.cursor = Cursor(self.cursor.seen, self.cursor.window, events[-1].id)
            self._low_water.read(events)


def _literal(numbers: Iterable[int]) -> str:
    """Write numbers as PostgreSQL's array: psycopg takes four times as long for each."""
    return f"{{{','.join(map(str, numbers))}}}"


@dataclass(slots=True)
class _Window:
    """A window that has been begun: `in_hand` in the order of reading, by `created_at`; `position` the last id read."""

    seen: str
    window: str
    position: int
    in_hand: dict[EventId, datetime] = field(default_factory=dict)


class LowWater:
    """What has been read and not yet settled, over as many windows as are still in hand. No I/O.

    A successor that begins at `cursor()` meets every event that is in hand. Windows are read out one after another,
    but events settle in any order: the first window with an event in hand is where the water stands.
    """

    __slots__ = ("_by_event", "_windows")

    def __init__(self, cursor: Cursor) -> None:
        self._windows: deque[_Window] = deque([_Window(cursor.seen, cursor.window, cursor.position)])
        self._by_event: dict[EventId, _Window] = {}

    @property
    def in_hand_count(self) -> int:
        """How many events are in hand."""
        return len(self._by_event)

    def oldest_at(self) -> datetime | None:
        """Return when the first event in hand was emitted."""
        self._drop_settled_windows(keep_last=True)
        return min(self._windows[0].in_hand.values(), default=None)

    def begin(self, seen: str, window: str) -> None:
        """Begin the window after the current one, which has been read out."""
        self._drop_settled_windows(keep_last=False)
        self._windows.append(_Window(seen, window, 0))

    def read(self, events: Sequence[Event]) -> None:
        """Take events of the current window, in the order of their ids, in hand."""
        current = self._windows[-1]
        current.position = events[-1].id
        for event in events:
            current.in_hand[event.id] = event.created_at
            self._by_event[event.id] = current

    def settled(self, event_ids: Iterable[EventId]) -> None:
        """Let events go; ids that are not in hand came from elsewhere."""
        for event_id in event_ids:
            window = self._by_event.pop(event_id, None)
            if window is not None:
                del window.in_hand[event_id]

    def cursor(self) -> Cursor:
        """Return the cursor before which everything is settled."""
        self._drop_settled_windows(keep_last=True)
        first = self._windows[0]
        oldest = min(first.in_hand, default=None)
        return Cursor(first.seen, first.window, first.position if oldest is None else oldest - 1)

    def _drop_settled_windows(self, *, keep_last: bool) -> None:
        while len(self._windows) > keep_last and not self._windows[0].in_hand:
            self._windows.popleft()


async def load_cursors(connection: AsyncConnection[TupleRow], lanes: Sequence[Lane]) -> list[tuple[Cursor, list[Lane]]]:
    """Return the saved cursors of some lanes, lanes that share one together."""
    rows = await (await connection.execute(LOAD_CURSORS, {"lanes": list(lanes)})).fetchall()
    return [(Cursor(seen, window, position), shared) for seen, window, position, shared in rows]
