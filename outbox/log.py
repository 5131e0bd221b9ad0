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

After down time, or one bulk commit, a window may hold millions of events. One of more than a slice is worked through by
position inside the window, never by moving the snapshot: its ids are listed (`listing.py`), and the rows fetched by
primary key.

Lanes that change hands come with a cursor of their own. The snapshots of one primary are ordered by inclusion: when two
readers have read out their windows to one and the same snapshot, they stand at one place, and go on as one. So a lane
can also be parted from the others, where one key has much of a large window, and come back when that is listed.

`offset 0` in the statements keeps the planner from walking the whole primary key to save a sort.
"""

from __future__ import annotations

from array import array
from collections import Counter as Tally
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, LiteralString

from psycopg import AsyncConnection, AsyncCursor
from psycopg.errors import QueryCanceled
from psycopg.rows import TupleRow

from outbox.encode import decode, encode_lanes, encode_numbers
from outbox.event import Event, EventId, Lane
from outbox.hand import Hand
from outbox.listing import PIECE_COUNT, Listing
from outbox.low_water import Cursor, Departure

_SAMPLE_COUNT = 128
"""Rows of a large window that show whether a key crowds it."""

_CROWD_SHARE = 6
"""A key that has a sixth of a large window crowds it: little of that can run soon, for one event of a key runs at once.
Five keys with as many each all do; of twenty none does."""

READ_NEXT_WINDOW: LiteralString = """
with w as materialized (select coalesce(%(target)s::pg_snapshot, pg_current_snapshot()) as snapshot)
select
  w.snapshot::text,
  e.id, e.lane, e.key, e.sequence, e.type, e.payload::text, e.headers::text,
  e.publish_at, e.expires_at, e.replay_of, e.created_at
from w
left join lateral (
  (
    select s.* from outbox.events as s
    where (%(lanes)s::boolean[])[s.lane] and s.xid = any (array(
      select x from pg_snapshot_xip(%(seen)s::pg_snapshot) as x where pg_visible_in_snapshot(x, w.snapshot)
    ))
    offset 0
  )
  union all
  (
    select n.* from outbox.events as n
    where (%(lanes)s::boolean[])[n.lane]
      and n.xid >= pg_snapshot_xmax(%(seen)s::pg_snapshot) and n.xid < pg_snapshot_xmax(w.snapshot)
      and pg_visible_in_snapshot(n.xid, w.snapshot)
    offset 0
  )
  limit %(limit)s
) as e on true
order by e.id
"""
"""One round trip: the next window, until now or a given snapshot, and its events in order, where they are fewer than
the limit; else any so many of it. At least one row, with nulls where the window is empty."""

FETCH: LiteralString = """
select
  e.id, e.lane, e.key, e.sequence, e.type, e.payload::text, e.headers::text,
  e.publish_at, e.expires_at, e.replay_of, e.created_at
from outbox.events as e
where e.id = any (%(ids)s::bigint[])
order by e.id
"""
"""JSON comes as text: for jsonb psycopg makes a view of memory and calls a loader, which costs as much as to decode."""

TAKE_SNAPSHOT: LiteralString = "select pg_current_snapshot()::text"

LOAD_CURSORS: LiteralString = """
select c.seen::text, c."window"::text, min(c.position), array_agg(c.lane order by c.lane)
from outbox.cursors as c
where c.lane = any (%(lanes)s)
group by c.seen::text, c."window"::text
"""
"""Lanes that stand in one window are read together from the first position: what is settled is skipped there anyway."""


@dataclass(slots=True, eq=False)
class LogReader:
    """Reads the log of some lanes that share a cursor, a slice at a time. Not for concurrent use.

    What `read` has returned is *in hand* until `hand` is told that it is settled. From the cursors that `hand` knows a
    successor finds all that is in hand now, and nothing lost.

    The first two windows may hold what a predecessor has settled already (it read further than it could save):
    there, and only there, events with a receipt or a waiting row are skipped.

    Attributes:
        connection: In autocommit: a window is read outside any transaction of ours, or it would hold back the
            horizon of the whole cluster.
        lanes: The lanes; `join` adds some, and `part` and, also while `read` is under way, `detach` take some away.
        cursor: Where to begin; then, how far has been read.
        slice_count: The most events that one `read` returns.
        piece_count: The most ids of a large window that are listed at once.
        parts_crowd: Have a key that has much of a large window parted from the others: its lane, see `crowded_lane`,
            and in its lane its own events, see `crowd`.
        hand: What is in hand.
    """

    connection: AsyncConnection[TupleRow]
    lanes: Sequence[Lane]
    cursor: Cursor
    slice_count: int = 1000
    piece_count: int = PIECE_COUNT
    parts_crowd: bool = False
    hand: Hand = field(init=False)
    _listing: Listing | None = None
    _crowd: Event | None = None
    _crowded_lane: Lane | None = None
    _windows_to_catch_up: int = 2
    _reading: AsyncCursor[TupleRow] = field(init=False)
    _lanes_read: str = field(init=False)
    _detached: frozenset[Lane] = frozenset()

    def __post_init__(self) -> None:
        self.hand = Hand(self.lanes, self.cursor)
        self._reading = self.connection.cursor(binary=True)
        self._lanes_changed()

    async def read(self, target: str | None = None) -> list[Event]:
        """Return the next events in order, at most a slice; none where there is nothing new, or a lane is crowded.

        Args:
            target: Where a window that begins now ends: a snapshot that was taken after this reader was made, and is
                not before the one where it stands. None is now.

        Raises:
            psycopg.Error: The cursor has not moved: read again, on this connection or with another reader.
        """
        self._crowded_lane = None
        if self._listing is not None:
            return await self._fetch_slice(self._listing)
        if self._windows_to_catch_up:
            return await self._catch_up(target)
        return await self._read_next_window(target)

    @property
    def catching_up(self) -> bool:
        """Whether what is read now may have been begun by a predecessor, so that it may have steps."""
        return self._windows_to_catch_up > 0

    @property
    def unread_count(self) -> int:
        """How many events of the current window are known of and not yet read: of a very large one, at most so many."""
        return 0 if self._listing is None else self._listing.left_count

    @property
    def crowded_lane(self) -> Lane | None:
        """The lane of a key that has much of what comes next: it is to be parted, or the others wait for its list."""
        return self._crowded_lane

    @property
    def crowd(self) -> Event | None:
        """An event of the key that has much of a large window, while ids of it are listed that `read` does not return.

        They are to be taken out with `unlist` before anything else is done with this reader.
        """
        return self._crowd if self._listing is not None and self._listing.has_apart else None

    def stands_at(self, target: str | None) -> bool:
        """Tell whether a window is read out, and ended where the target is; anywhere, for None."""
        return self._listing is None and not self.catching_up and target in (None, self.cursor.window)

    async def unlist(self, key: str) -> array[int]:
        """Take what is listed of a key, and not read, out of what is read, and return it, for `Hand.spill_unread`.

        Raises psycopg.Error.
        """
        if self._listing is None:
            return array("q")
        ids = await self._listing.take_out(key)
        self._end(self._listing)
        return ids

    def join(self, other: LogReader) -> None:
        """Read the lanes of another reader too, which stands at the same snapshot, and is of no use afterwards."""
        boundary = self.cursor.window
        assert self.stands_at(boundary)
        assert other.stands_at(boundary)
        self.cursor = Cursor(boundary, boundary, 0)
        self.hand.join(other.hand, self.cursor)
        self._lanes_changed()

    def part(self, lane: Lane, connection: AsyncConnection[TupleRow]) -> LogReader:
        """Read a lane no more, between two reads, and return a reader that goes on with it where this one stands."""
        assert self._listing is None
        self._crowded_lane = None
        parted = LogReader(connection, [lane], self.cursor, self.slice_count, self.piece_count, self.parts_crowd)
        parted.hand = self.hand.part([lane])
        parted._windows_to_catch_up = self._windows_to_catch_up
        self._lanes_changed()
        return parted

    def detach(self, lanes: Collection[Lane]) -> dict[Lane, Departure]:
        """Read no more of some lanes, from now on, and return where each of them stands."""
        leaving = frozenset(lanes).intersection(self.lanes)
        departures = self.hand.leave(leaving, self.cursor)
        # What is listed, or being read at this moment, may hold events of theirs.
        self._detached |= leaving
        self._lanes_changed()
        return departures

    async def _read_next_window(self, target: str | None) -> list[Event]:
        self._detached = frozenset()  # nothing of theirs is listed any more
        seen = self.cursor.window
        arguments = {"seen": seen, "target": target, "lanes": self._lanes_read, "limit": self.slice_count + 1}
        try:
            await self._reading.execute(READ_NEXT_WINDOW, arguments, prepare=True)
        except QueryCanceled:
            # Too many events of other lanes are between those of ours: they are listed piece by piece.
            window = await take_snapshot(self.connection) if target is None else target
            return await self._begin_large_window(Cursor(seen, window), None)
        if self._reading.rowcount <= self.slice_count:
            rows = await self._reading.fetchall()
            self._begin(seen, rows[0][0])
            return [] if rows[0][1] is None else self._hand_out([_event(row[1:]) for row in rows])
        # More than a slice: which of it comes first only the whole window tells, and it may hold millions.
        row = await self._reading.fetchone()
        assert row is not None
        crowd = await self._find_crowd()
        return [] if self._crowded_lane is not None else await self._begin_large_window(Cursor(seen, row[0]), crowd)

    async def _begin_large_window(self, ahead: Cursor, crowd: Event | None) -> list[Event]:
        listing = await self._list(ahead, crowd, unsettled=False)
        self._begin(ahead.seen, ahead.window)  # not before: a failure to list leaves the cursor where it was
        self._listing, self._crowd = listing, crowd
        return [] if listing is None or listing.has_apart else await self._fetch_slice(listing)

    async def _catch_up(self, target: str | None) -> list[Event]:
        self._detached = frozenset()
        if self._windows_to_catch_up == 1:
            window = await take_snapshot(self.connection) if target is None else target
            ahead = Cursor(self.cursor.window, window, 0)
        else:
            ahead = self.cursor
        crowd = await self._look_for_crowd(ahead) if self.parts_crowd else None
        if self._crowded_lane is not None:
            return []
        listing = await self._list(ahead, crowd, unsettled=True)
        if ahead is not self.cursor:
            self._begin(ahead.seen, ahead.window)
        self._listing, self._crowd = listing, crowd
        if listing is not None:
            return [] if listing.has_apart else await self._fetch_slice(listing)
        self._windows_to_catch_up -= 1
        return await self._catch_up(target) if self._windows_to_catch_up else []

    async def _look_for_crowd(self, ahead: Cursor) -> Event | None:
        limit = self.slice_count + 1
        given = {"seen": ahead.seen, "target": ahead.window, "lanes": self._lanes_read, "limit": limit}
        try:
            await self._reading.execute(READ_NEXT_WINDOW, given, prepare=True)
        except QueryCanceled:
            return None
        return await self._find_crowd()

    async def _find_crowd(self) -> Event | None:
        """Return an event of the key that crowds a window most, by some of the rows that were just asked for.

        Where its lane is to be parted from others, it is noted, and nothing of the window may be begun.
        """
        if not self.parts_crowd or self._reading.rowcount <= self.slice_count:
            return None
        some = []
        for number in range(_SAMPLE_COUNT):
            await self._reading.scroll(number * self._reading.rowcount // _SAMPLE_COUNT, mode="absolute")
            some.append(await self._reading.fetchone())
        events = [_event(row[1:]) for row in some if row is not None]
        keys = Tally(event.key for event in events if event.key is not None)
        key, count = max(keys.items(), key=itemgetter(1), default=(None, 0))
        if _CROWD_SHARE * count < len(events):
            return None
        crowd = next(event for event in events if event.key == key)
        if len(self.lanes) > 1 and crowd.lane in self.lanes:
            self._crowded_lane = crowd.lane
        return crowd

    async def _list(self, cursor: Cursor, crowd: Event | None, *, unsettled: bool) -> Listing | None:
        """List what is left of a window, the key that crowds it apart; None where nothing is."""
        listing = Listing(
            self._reading,
            cursor.seen,
            cursor.window,
            cursor.position,
            self._lanes_read,
            unsettled=unsettled,
            piece_count=self.piece_count,
            apart=None if crowd is None else crowd.key,
        )
        await listing.begin()
        return None if listing.is_read_out else listing

    async def _fetch_slice(self, listing: Listing) -> list[Event]:
        ids = listing.peek(self.slice_count)
        events = list(map(_event, await self._rows(FETCH, {"ids": encode_numbers(ids)})))
        await listing.advance(len(ids))
        self._end(listing)
        return self._hand_out(events)

    def _end(self, listing: Listing) -> None:
        """The next window may begin, where this one is read out."""
        if listing.is_read_out:
            self._listing = None
            self._windows_to_catch_up = max(0, self._windows_to_catch_up - 1)

    async def _rows(self, statement: LiteralString, arguments: dict[str, Any]) -> list[TupleRow]:
        await self._reading.execute(statement, arguments, prepare=True)
        return await self._reading.fetchall()

    def _begin(self, seen: str, window: str) -> None:
        self.cursor = Cursor(seen, window, 0)
        self.hand.begin(seen, window)

    def _hand_out(self, events: list[Event]) -> list[Event]:
        """Take events in hand, but for those of lanes that were given up since they were listed or asked for."""
        if not events:
            return events
        self.cursor = Cursor(self.cursor.seen, self.cursor.window, events[-1].id)
        if self._detached:
            events = [event for event in events if event.lane not in self._detached]
        self.hand.read(events, self.cursor.position)
        return events

    def _lanes_changed(self) -> None:
        self.lanes = self.hand.lanes
        self._lanes_read = encode_lanes(self.lanes)  # once, not at every look
        self._detached -= frozenset(self.lanes)


async def take_snapshot(connection: AsyncConnection[TupleRow]) -> str:
    """Return what is visible now, as PostgreSQL prints it: a place in the log."""
    row = await (await connection.execute(TAKE_SNAPSHOT)).fetchone()
    assert row is not None
    snapshot: str = row[0]
    return snapshot


async def fetch(connection: AsyncConnection[TupleRow], event_ids: Sequence[EventId]) -> list[Event]:
    """Return events by their ids, in their order."""
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(FETCH, {"ids": encode_numbers(event_ids)}, prepare=True)
        return list(map(_event, await cursor.fetchall()))


async def load_cursors(connection: AsyncConnection[TupleRow], lanes: Sequence[Lane]) -> list[tuple[Cursor, list[Lane]]]:
    """Return the saved cursors of some lanes, lanes that stand in one window together."""
    rows = await (await connection.execute(LOAD_CURSORS, {"lanes": list(lanes)})).fetchall()
    return [(Cursor(seen, window, position), shared) for seen, window, position, shared in rows]


def _event(row: TupleRow) -> Event:
    event_id, lane, key, sequence, event_type, payload, headers, publish_at, expires_at, replay_of, created_at = row
    payload, headers = decode(payload), decode(headers)
    values = event_id, lane, key, sequence, event_type, payload, headers, publish_at, expires_at, replay_of, created_at
    return tuple.__new__(Event, values)  # as `Event` itself does; to be called with so many arguments costs more
