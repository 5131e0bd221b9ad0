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
readers have read out their windows to one and the same snapshot, they stand at one place, and go on as one.

`offset 0` in the statements keeps the planner from walking the whole primary key to save a sort.
"""

from __future__ import annotations

from array import array
from collections import Counter as Tally
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import TupleRow

from outbox.encode import encode_lanes, encode_numbers
from outbox.event import Event, EventId, Lane
from outbox.listing import PIECE_COUNT, Listing
from outbox.low_water import Cursor, Departure, LowWater, Spilled

_SAMPLE_COUNT = 32
"""Rows of a large window that show whether one key has most of it."""

READ_NEXT_WINDOW: LiteralString = """
with w as materialized (select coalesce(%(target)s::pg_snapshot, pg_current_snapshot()) as snapshot)
select
  w.snapshot::text,
  e.id, e.lane, e.key, e.sequence, e.type, e.payload, e.headers, e.publish_at, e.expires_at, e.replay_of, e.created_at
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
  e.id, e.lane, e.key, e.sequence, e.type, e.payload, e.headers, e.publish_at, e.expires_at, e.replay_of, e.created_at
from outbox.events as e
where e.id = any (%(ids)s::bigint[])
order by e.id
"""

TAKE_SNAPSHOT: LiteralString = "select pg_current_snapshot()::text"

LOAD_CURSORS: LiteralString = """
select c.seen::text, c."window"::text, min(c.position), array_agg(c.lane order by c.lane)
from outbox.cursors as c
where c.lane = any (%(lanes)s)
group by c.seen::text, c."window"::text
"""
"""Lanes that stand in one window are read together from the first position: what is settled is skipped there anyway."""


@dataclass(slots=True)
class LogReader:
    """Reads the log of some lanes that share a cursor, a slice at a time. Not for concurrent use.

    What `read` has returned is *in hand* until `settled` is told of it; `low_waters` are the cursors from which a
    successor finds all that is in hand now, and nothing lost.

    The first two windows may hold what a predecessor has settled already (it read further than it could save):
    there, and only there, events with a receipt or a waiting row are skipped.

    Attributes:
        connection: In autocommit: a window is read outside any transaction of ours, or it would hold back the
            horizon of the whole cluster.
        lanes: The lanes; `join` adds some, and `detach`, also while `read` is under way, takes some away.
        cursor: Where to begin; then, how far has been read.
        slice_count: The most events that one `read` returns.
        piece_count: The most ids of a large window that are listed at once.
        parts_crowd: List the key that has most of a large window apart, see `crowd`.
    """

    connection: AsyncConnection[TupleRow]
    lanes: Sequence[Lane]
    cursor: Cursor
    slice_count: int = 1000
    piece_count: int = PIECE_COUNT
    parts_crowd: bool = False
    _listing: Listing | None = None
    _crowd: Event | None = None
    _windows_to_catch_up: int = 2
    _water: LowWater = field(init=False)
    _earlier: list[tuple[Sequence[Lane], LowWater]] = field(default_factory=list)
    _reading: AsyncCursor[TupleRow] = field(init=False)
    _lanes_read: str = field(init=False)
    _detached: frozenset[Lane] = frozenset()

    def __post_init__(self) -> None:
        self._water = LowWater(self.cursor)
        self._reading = self.connection.cursor(binary=True)
        self._set_lanes(self.lanes)

    async def read(self, target: str | None = None) -> list[Event]:
        """Return the next events in order, at most a slice; none where there is nothing new.

        Args:
            target: Where a window that begins now ends: a snapshot that was taken after this reader was made, and is
                not before the one where it stands. None is now.

        Raises:
            psycopg.Error: The cursor has not moved: read again, on this connection or with another reader.
        """
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
    def crowd(self) -> Event | None:
        """An event of the key that has most of a large window, while ids of it are listed that `read` does not return.

        They are to be taken out with `unlist` before anything else is done with this reader.
        """
        return self._crowd if self._listing is not None and self._listing.has_apart else None

    def stands_at(self, target: str | None) -> bool:
        """Tell whether a window is read out, and ended where the target is; anywhere, for None."""
        return self._listing is None and not self.catching_up and target in (None, self.cursor.window)

    @property
    def in_hand_count(self) -> int:
        """How many events have been read and not settled; without those that were spilled."""
        return self._water.in_hand_count + sum(water.in_hand_count for _, water in self._earlier)

    def in_hand(self) -> list[Event]:
        """Return the events in hand, in the order of reading within each lane."""
        waters = [*(water for _, water in self._earlier), self._water]
        return [event for water in waters for event in water.in_hand()]

    def event_in_hand(self, event_id: EventId) -> Event | None:
        """Return an event that is in hand."""
        waters = (self._water, *(water for _, water in self._earlier))
        return next((event for water in waters if (event := water.event_in_hand(event_id)) is not None), None)

    def spill(self, event: Event, behind: Spilled | None) -> Spilled | None:
        """Keep the id alone of an event in hand, behind others of its key; None where it is not in hand.

        It is not settled: `low_waters` and `detach` know of it as of those in hand, and `take_back` is for its turn.
        """
        for water in (self._water, *(water for _, water in self._earlier)):
            if event.id in water:
                return water.spill(event, behind)
        return None

    async def unlist(self, key: str) -> array[int]:
        """Take what is listed of a key, and not read, out of what will be read, and return the ids; see `spill_unread`.

        Raises psycopg.Error.
        """
        if self._listing is None:
            return array("q")
        ids = await self._listing.take_out(key)
        self._end(self._listing)
        return ids

    def spill_unread(self, event: Event, event_ids: Sequence[int], behind: Spilled | None) -> Spilled | None:
        """Keep ids that were unlisted just now, of the key of an event; None where its lane was given up meanwhile."""
        return self._water.spill_unread(event, event_ids, behind) if event.lane in self.lanes else None

    def has_in_hand(self, event_id: EventId) -> bool:
        """Tell whether an event has been read, is not settled, and its lane was not given up meanwhile."""
        return event_id in self._water or any(event_id in water for _, water in self._earlier)

    def oldest_in_hand_at(self) -> datetime | None:
        """Return when the oldest event in hand was emitted; of the first window that has one in hand."""
        waters = [self._water, *(water for _, water in self._earlier)]
        return min((at for water in waters if (at := water.oldest_at()) is not None), default=None)

    def settled(self, event_ids: Iterable[EventId]) -> None:
        """Take note that these events have a receipt or a waiting row, durably. Others' ids are passed over."""
        self._water.settled(event_ids)
        if self._earlier:
            for _, water in self._earlier:
                water.settled(event_ids)
            self._earlier = [(lanes, water) for lanes, water in self._earlier if not water.is_settled]

    def low_waters(self) -> list[tuple[Sequence[Lane], Cursor]]:
        """Return the cursors that may be saved, with their lanes: everything before them is settled."""
        left = set(self.lanes)
        waters = []
        for lanes, water in self._earlier:
            if held_back := left.intersection(lanes):
                waters.append((sorted(held_back), water.cursor()))
                left -= held_back
        return [*waters, (sorted(left), self._water.cursor())] if left else list(waters)

    def join(self, other: LogReader) -> None:
        """Read the lanes of another reader too, which stands at the same snapshot, and is of no use afterwards."""
        boundary = self.cursor.window
        assert self.stands_at(boundary)
        assert other.stands_at(boundary)
        for each in (self, other):
            self._earlier += [] if each._water.is_settled else [(each.lanes, each._water)]  # noqa: SLF001 (our own)
        self._earlier += other._earlier
        self._set_lanes(sorted((*self.lanes, *other.lanes)))
        self.cursor = Cursor(boundary, boundary, 0)
        self._water = LowWater(self.cursor)

    def detach(self, lanes: Collection[Lane]) -> dict[Lane, Departure]:
        """Read no more of some lanes, from now on, and return where each of them stands."""
        leaving = frozenset(lanes).intersection(self.lanes)
        departures = {lane: Departure(self.cursor) for lane in leaving}
        if leaving:
            for water in (*(water for _, water in self._earlier), self._water):
                for lane, event_id, cursor in water.take_out(leaving):
                    departures[lane].in_hand[event_id] = cursor
            # A lane that comes back has a low water of its own: that of its time before may be ahead of it.
            staying = [([lane for lane in lanes if lane not in leaving], water) for lanes, water in self._earlier]
            self._earlier = [(lanes, water) for lanes, water in staying if not water.is_settled]
            self._set_lanes([lane for lane in self.lanes if lane not in leaving])
            # What is listed, or being read at this moment, may hold events of theirs.
            self._detached |= leaving
        return departures

    async def _read_next_window(self, target: str | None) -> list[Event]:
        self._detached = frozenset()  # nothing of theirs is listed any more
        seen = self.cursor.window
        arguments = {"seen": seen, "target": target, "lanes": self._lanes_read, "limit": self.slice_count + 1}
        await self._reading.execute(READ_NEXT_WINDOW, arguments, prepare=True)
        if self._reading.rowcount <= self.slice_count:
            rows = await self._reading.fetchall()
            self._begin(seen, rows[0][0])
            return [] if rows[0][1] is None else self._hand_out([Event._make(row[1:]) for row in rows])
        # More than a slice: which of it comes first only the whole window tells, and it may hold millions.
        row = await self._reading.fetchone()
        assert row is not None
        window: str = row[0]
        crowd = await self._find_crowd()
        listing = await self._list(Cursor(seen, window), crowd, unsettled=False)
        self._begin(seen, window)  # not before: a failure to list leaves the cursor where it was
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
        await self._reading.execute(READ_NEXT_WINDOW, given, prepare=True)
        return await self._find_crowd()

    async def _find_crowd(self) -> Event | None:
        """Return an event of the key that has most of a window, by some of the rows that were just asked for."""
        if not self.parts_crowd or self._reading.rowcount <= self.slice_count:
            return None
        some = []
        for number in range(_SAMPLE_COUNT):
            await self._reading.scroll(number * self._reading.rowcount // _SAMPLE_COUNT, mode="absolute")
            some.append(await self._reading.fetchone())
        events = [Event._make(row[1:]) for row in some if row is not None]
        [(key, count)] = Tally(event.key for event in events).most_common(1)
        return None if key is None or 2 * count <= len(events) else next(e for e in events if e.key == key)

    async def _list(self, cursor: Cursor, crowd: Event | None, *, unsettled: bool) -> Listing | None:
        """List what is left of a window, the key that crowds it apart; None where nothing is."""
        listing = Listing(
            self._reading,
            cursor.seen,
            cursor.window,
            cursor.position,
            encode_numbers(self.lanes),
            unsettled=unsettled,
            piece_count=self.piece_count,
            apart=None if crowd is None else crowd.key,
        )
        await listing.begin()
        return None if listing.is_read_out else listing

    async def _fetch_slice(self, listing: Listing) -> list[Event]:
        ids = listing.peek(self.slice_count)
        events = [Event._make(row) for row in await self._rows(FETCH, {"ids": encode_numbers(ids)})]
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
        self._water.begin(seen, window)

    def _hand_out(self, events: list[Event]) -> list[Event]:
        """Take events in hand, but for those of lanes that were given up since they were listed or asked for."""
        if not events:
            return events
        self.cursor = Cursor(self.cursor.seen, self.cursor.window, events[-1].id)
        if self._detached:
            events = [event for event in events if event.lane not in self._detached]
        self._water.read(events, self.cursor.position)
        return events

    def _set_lanes(self, lanes: Sequence[Lane]) -> None:
        self.lanes = lanes
        self._lanes_read = encode_lanes(lanes)  # once, not at every look
        self._detached -= frozenset(lanes)


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
        return [Event._make(row) for row in await cursor.fetchall()]


async def load_cursors(connection: AsyncConnection[TupleRow], lanes: Sequence[Lane]) -> list[tuple[Cursor, list[Lane]]]:
    """Return the saved cursors of some lanes, lanes that stand in one window together."""
    rows = await (await connection.execute(LOAD_CURSORS, {"lanes": list(lanes)})).fetchall()
    return [(Cursor(seen, window, position), shared) for seen, window, position, shared in rows]
