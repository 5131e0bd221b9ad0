"""The ids of a large window, in their order: listed a bounded number at a time, 8 bytes each.

Whatever a window holds, no statement reads more than a bounded number of rows, so that none runs into its time-out and
memory is bounded too:

    at most `piece_count` events    one statement, by the index on xid: it costs what the window holds
    more                            the log from its first event that is kept, or from the position, to the last one
                                    there is, so many ids at a time by primary key: it also passes what is not in the
                                    window

The order is by id over the whole window, so a large one can't be cut by xid.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from itertools import filterfalse
from sys import byteorder
from typing import Any, Final, LiteralString

from psycopg import AsyncCursor
from psycopg.rows import TupleRow

PIECE_COUNT: Final = 500_000

LIST_WINDOW: LiteralString = """
with w as materialized (select %(window)s::pg_snapshot as snapshot),
found as materialized (
  select e.id, coalesce(e.key = %(apart)s::text, false) as is_apart
  from w
  cross join lateral (
    (
      select s.id, s.key from outbox.events as s
      where s.xid = any (array(
        select x from pg_snapshot_xip(%(seen)s::pg_snapshot) as x where pg_visible_in_snapshot(x, w.snapshot)
      )) and s.lane = any (%(lanes)s::smallint[]) and (%(key)s::text is null or s.key = %(key)s::text)
      offset 0
    )
    union all
    (
      select n.id, n.key from outbox.events as n
      where n.xid >= pg_snapshot_xmax(%(seen)s::pg_snapshot) and n.xid < pg_snapshot_xmax(w.snapshot)
        and pg_visible_in_snapshot(n.xid, w.snapshot) and n.lane = any (%(lanes)s::smallint[])
        and (%(key)s::text is null or n.key = %(key)s::text)
      offset 0
    )
  ) as e
  limit %(limit)s
)
select
  (select count(*) from found),
  string_agg(int8send(e.id), ''::bytea order by e.id) filter (where not e.is_apart),
  string_agg(int8send(e.id), ''::bytea order by e.id) filter (where e.is_apart)
from found as e
where e.id > %(position)s
  and (not %(unsettled)s or (
    not exists (select from outbox.receipts as r where r.event_id = e.id)
    and not exists (select from outbox.waiting as p where p.event_id = e.id)
  ))
"""
"""How many events were found, and their ids as one value of 8 bytes each, those of the key `apart` by themselves; only
those without a receipt or a waiting row where `unsettled`, and only those of a key where one is given. Where more were
found than asked for, these are not the first ones."""

LIST_PIECE: LiteralString = """
select
  string_agg(int8send(e.id), ''::bytea order by e.id) filter (where e.key = %(apart)s::text is not true),
  string_agg(int8send(e.id), ''::bytea order by e.id) filter (where e.key = %(apart)s::text)
from outbox.events as e
where e.id > %(position)s and e.id <= %(piece_end)s and e.lane = any (%(lanes)s::smallint[])
  and (%(key)s::text is null or e.key = %(key)s::text)
  and pg_visible_in_snapshot(e.xid, %(window)s::pg_snapshot)
  and not pg_visible_in_snapshot(e.xid, %(seen)s::pg_snapshot)
  and (not %(unsettled)s or (
    not exists (select from outbox.receipts as r where r.event_id = e.id)
    and not exists (select from outbox.waiting as p where p.event_id = e.id)
  ))
"""

FIND_BOUNDS: LiteralString = """
select
  (select min(e.id) from outbox.events as e where e.id > %(position)s),
  (select max(e.id) from outbox.events as e)
"""
"""The next id there is, and the last one: of what is visible now, and so of all that the window can hold."""


@dataclass(slots=True)
class Listing:
    """What is left to be fetched of a window. Not for concurrent use.

    `begin` it, then `peek`, fetch, `advance`, until it `is_read_out`. Where a statement fails nothing has moved.

    Attributes:
        reading: A binary cursor, of a connection in autocommit.
        seen, window: The snapshots between which the window lies.
        position: Ids up to it are listed, or not asked for.
        lanes: As PostgreSQL's array.
        unsettled: Leave out what has a receipt or a waiting row.
        piece_count: The most rows that a statement reads.
        apart: A key whose ids are kept by themselves: `peek` passes over them, `take_out` returns them.
    """

    reading: AsyncCursor[TupleRow]
    seen: str
    window: str
    position: int
    lanes: str
    unsettled: bool
    piece_count: int = PIECE_COUNT
    apart: str | None = None
    _apart_ids: array[int] = field(default_factory=lambda: array("q"))
    _ids: array[int] = field(default_factory=lambda: array("q"))
    _taken: int = 0
    _last_id: int = 0

    async def begin(self) -> None:
        """List the window, or the first piece of it that holds anything. Raises psycopg.Error."""
        found, ids, apart = await self._row(LIST_WINDOW, limit=self.piece_count + 1)
        if found <= self.piece_count:
            self._ids, self._apart_ids = _numbers(ids), _numbers(apart)
            return
        self._last_id = (await self._bounds())[1] or 0
        await self._list_on()

    @property
    def is_read_out(self) -> bool:
        """Whether nothing is left."""
        return not self._apart_ids and self._taken >= len(self._ids) and self.position >= self._last_id

    @property
    def has_apart(self) -> bool:
        """Whether there are ids to be taken out of the key that is kept apart."""
        return bool(self._apart_ids)

    @property
    def left_count(self) -> int:
        """How many events are left: at most so many where not all are listed yet."""
        return len(self._apart_ids) + len(self._ids) - self._taken + max(0, self._last_id - self.position)

    def peek(self, count: int) -> array[int]:
        """Return the next ids."""
        return self._ids[self._taken : self._taken + count]

    async def advance(self, count: int) -> None:
        """Let go of that many ids, and list on where they were the last ones. Raises psycopg.Error."""
        if self._taken + count >= len(self._ids):
            await self._list_on()
        else:
            self._taken += count

    async def take_out(self, key: str) -> array[int]:
        """Let go of the ids of a key among those that are listed now, and return them. Raises psycopg.Error."""
        if key == self.apart:
            ids, self._apart_ids = self._apart_ids, array("q")
            return ids
        listed = self.peek(len(self._ids))
        if not listed:
            return listed
        # Also what is settled: it is not listed, and to leave it out costs more than the rest.
        given = {"position": listed[0] - 1, "key": key, "apart": None, "unsettled": False}
        if self._last_id:
            ids, _ = await self._row(LIST_PIECE, piece_end=self.position, **given)
        else:
            _, ids, _ = await self._row(LIST_WINDOW, limit=self.piece_count + 1, **given)
        is_of_key = set(_numbers(ids)).__contains__
        if rest := array("q", filterfalse(is_of_key, listed)):
            self._ids, self._taken = rest, 0
        else:
            await self._list_on()
        return array("q", filter(is_of_key, listed))

    async def _list_on(self) -> None:
        """List the next piece that holds anything, in place of the one that is used up."""
        ids, apart_ids, position = array("q"), array("q"), self.position
        while not ids and not apart_ids and position < self._last_id:
            first, _ = await self._bounds(position)
            if first is None or first > self._last_id:
                position = self._last_id
                break
            piece_end = min(first - 1 + self.piece_count, self._last_id)
            found, apart = await self._row(LIST_PIECE, position=position, piece_end=piece_end)
            ids, apart_ids, position = _numbers(found), _numbers(apart), piece_end
        self._ids, self._taken, self.position = ids, 0, position
        self._apart_ids += apart_ids

    async def _bounds(self, position: int | None = None) -> tuple[int | None, int | None]:
        first, last = await self._row(FIND_BOUNDS, position=self.position if position is None else position)
        return first, last

    async def _row(self, statement: LiteralString, **more: object) -> tuple[Any, ...]:
        given = {
            "seen": self.seen,
            "window": self.window,
            "position": self.position,
            "lanes": self.lanes,
            "unsettled": self.unsettled,
            "key": None,
            "apart": self.apart,
            **more,
        }
        await self.reading.execute(statement, given, prepare=True)
        row = await self.reading.fetchone()
        assert row is not None
        return row


def _numbers(ids: bytes | None) -> array[int]:
    numbers = array("q", ids or b"")
    if byteorder == "little":
        numbers.byteswap()
    return numbers
