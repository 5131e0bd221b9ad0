"""The ids of a large window, in their order: listed a bounded number at a time, 8 bytes each.

    at most `piece_count` events    one statement, by the index on xid
    more                            the log from the window's first event to its last one, so many ids at a time, by
                                    primary key: it also passes what was emitted between them

So a window costs what it holds, not what the log keeps before and behind it. The order is by id over the whole window,
so a large one can't be cut by xid; and nothing follows about ids from xids, so where it begins and ends only its own
events tell. To find that, one statement reads all of them, in constant memory: 2 s for 5,000,000, and 6 s right after a
bulk insert. Where it runs into its time-out, the whole log is passed, from the position on; likewise where few lanes
are asked for, and the first statement passes too many events of others. To list a piece, no more rows are read than a
piece may hold.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from itertools import filterfalse
from sys import byteorder
from typing import Final, LiteralString

from psycopg import AsyncCursor
from psycopg.errors import QueryCanceled
from psycopg.rows import TupleRow

PIECE_COUNT: Final = 500_000

_EVENTS_OF_WINDOW: LiteralString = """
with w as materialized (select %(window)s::pg_snapshot as snapshot),
e as not materialized (
  select o.id, o.key
  from w
  cross join lateral (
    (
      select s.id, s.key from outbox.events as s
      where (%(lanes)s::boolean[])[s.lane] and (%(key)s::text is null or s.key = %(key)s::text)
        and s.xid = any (array(
          select x from pg_snapshot_xip(%(seen)s::pg_snapshot) as x where pg_visible_in_snapshot(x, w.snapshot)
        ))
      offset 0
    )
    union all
    (
      select n.id, n.key from outbox.events as n
      where (%(lanes)s::boolean[])[n.lane] and (%(key)s::text is null or n.key = %(key)s::text)
        and n.xid >= pg_snapshot_xmax(%(seen)s::pg_snapshot) and n.xid < pg_snapshot_xmax(w.snapshot)
        and pg_visible_in_snapshot(n.xid, w.snapshot)
      offset 0
    )
  ) as o
)"""

LIST_WINDOW: LiteralString = (
    _EVENTS_OF_WINDOW
    + """,
found as materialized (
  select e.id, coalesce(e.key = %(apart)s::text, false) as is_apart from e limit %(limit)s
)
select
  (select count(*) from found),
  string_agg(int8send(e.id), ''::bytea order by e.id) filter (where not e.is_apart),
  string_agg(int8send(e.id), ''::bytea order by e.id) filter (where e.is_apart)
from found as e
where e.id > %(position)s and (select count(*) from found) < %(limit)s
  and (not %(unsettled)s or (
    not exists (select from outbox.receipts as r where r.event_id = e.id)
    and not exists (select from outbox.waiting as p where p.event_id = e.id)
  ))
"""
)
"""How many events were found, and their ids as one value of 8 bytes each, those of the key `apart` by themselves; only
those without a receipt or a waiting row where `unsettled`, and only those of a key where one is given. No ids
where as many were found as were asked for: these are not the first ones."""

LIST_PIECE: LiteralString = """
select
  string_agg(int8send(e.id), ''::bytea order by e.id) filter (where e.key = %(apart)s::text is not true),
  string_agg(int8send(e.id), ''::bytea order by e.id) filter (where e.key = %(apart)s::text)
from outbox.events as e
where e.id > %(position)s and e.id <= %(piece_end)s and (%(lanes)s::boolean[])[e.lane]
  and (%(key)s::text is null or e.key = %(key)s::text)
  and pg_visible_in_snapshot(e.xid, %(window)s::pg_snapshot)
  and not pg_visible_in_snapshot(e.xid, %(seen)s::pg_snapshot)
  and (not %(unsettled)s or (
    not exists (select from outbox.receipts as r where r.event_id = e.id)
    and not exists (select from outbox.waiting as p where p.event_id = e.id)
  ))
"""

FIND_BOUNDS: LiteralString = (
    _EVENTS_OF_WINDOW
    + """
select min(e.id), max(e.id) from e where e.id > %(position)s
"""
)
"""The first id of a window after the position, and the last one."""

FIND_PIECES: LiteralString = """
with recursive piece as (
  select (select min(e.id) from outbox.events as e where e.id >= %(first)s) as first
  union all
  select (select min(e.id) from outbox.events as e where e.id >= p.first + %(piece_count)s)
  from piece as p
  where p.first <= %(last)s
)
select p.first, least(p.first + %(piece_count)s - 1, %(last)s) from piece as p where p.first <= %(last)s order by 1
"""
"""What there is of the log between two ids, gaps left out, in pieces: the first and the last id of each."""

_ID_MAX: Final = 2**63 - 1


@dataclass(slots=True)
class Listing:
    """What is left to be fetched of a window. Not for concurrent use.

    `begin` it, then `peek`, fetch, `advance`, until it `is_read_out`. Where a statement fails nothing has moved.

    Attributes:
        reading: A binary cursor, of a connection in autocommit.
        seen, window: The snapshots between which the window lies.
        position: Ids up to it are not asked for.
        lanes: As `outbox.encode.encode_lanes` has them.
        unsettled: Leave out what has a receipt or a waiting row.
        piece_count: The most ids that are listed at once.
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
    _piece_end: int = 0
    _pieces: list[tuple[int, int]] = field(default_factory=list)

    async def begin(self) -> None:
        """List the window, or the first piece of it that holds anything. Raises psycopg.Error."""
        found, ids, apart = await self._in_time(LIST_WINDOW, limit=self.piece_count + 1) or (math.inf, None, None)
        if found <= self.piece_count:
            self._ids, self._apart_ids = _numbers(ids), _numbers(apart)
        else:
            self._pieces = await self._find_pieces()
            await self._list_on()

    @property
    def is_read_out(self) -> bool:
        """Whether nothing is left."""
        return not self._apart_ids and self._taken >= len(self._ids) and not self._pieces

    @property
    def has_apart(self) -> bool:
        """Whether there are ids to be taken out of the key that is kept apart."""
        return bool(self._apart_ids)

    @property
    def left_count(self) -> int:
        """How many events are left: at most so many where not all are listed yet."""
        unlisted_count = sum(last - first + 1 for first, last in self._pieces)
        return len(self._apart_ids) + len(self._ids) - self._taken + unlisted_count

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
        if self._piece_end:
            [(ids, _)] = await self._rows(LIST_PIECE, piece_end=self._piece_end, **given)
        else:
            [(_, ids, _)] = await self._rows(LIST_WINDOW, limit=self.piece_count + 1, **given)
        is_of_key = set(_numbers(ids)).__contains__
        if rest := array("q", filterfalse(is_of_key, listed)):
            self._ids, self._taken = rest, 0
        else:
            await self._list_on()
        return array("q", filter(is_of_key, listed))

    async def _list_on(self) -> None:
        """List the next piece that holds anything, in place of the one that is used up."""
        ids, apart_ids, piece_end, tried = array("q"), array("q"), self._piece_end, 0
        while not ids and not apart_ids and tried < len(self._pieces):
            first, piece_end = self._pieces[tried]
            [(found, apart)] = await self._rows(LIST_PIECE, position=first - 1, piece_end=piece_end)
            ids, apart_ids, tried = _numbers(found), _numbers(apart), tried + 1
        self._ids, self._taken, self._piece_end = ids, 0, piece_end
        self._apart_ids += apart_ids
        del self._pieces[:tried]

    async def _find_pieces(self) -> list[tuple[int, int]]:
        """Return the first and the last id of each piece."""
        first, last = await self._in_time(FIND_BOUNDS) or (self.position + 1, _ID_MAX)
        pieces = await self._rows(FIND_PIECES, first=first, last=last, piece_count=self.piece_count)
        return [(first, last) for first, last in pieces]

    async def _in_time(self, statement: LiteralString, **more: object) -> TupleRow | None:
        """Return the row of a statement; None where it ran into its time-out, because the window is too large."""
        try:
            [row] = await self._rows(statement, **more)
        except QueryCanceled:
            return None
        return row

    async def _rows(self, statement: LiteralString, **more: object) -> list[TupleRow]:
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
        return await self.reading.fetchall()


def _numbers(ids: bytes | None) -> array[int]:
    numbers = array("q", ids or b"")
    if byteorder == "little":
        numbers.byteswap()
    return numbers
