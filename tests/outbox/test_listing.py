"""What a large window costs, where it begins and ends, and what a failure leaves of its listing."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, LiteralString, Self

import psycopg
import pytest
from psycopg import AsyncConnection, AsyncCursor
from psycopg.pq import Format
from psycopg.rows import TupleRow

from outbox.emit import emit
from outbox.encode import encode_lanes
from outbox.event import EventId
from outbox.listing import FIND_BOUNDS, FIND_PIECES, LIST_PIECE, LIST_WINDOW, Listing
from outbox.log import LogReader, take_snapshot
from outbox.low_water import Cursor
from tests.outbox.store import LANES, Store, ids, rows
from tests.outbox.test_log import events_read, read_out, reading

pytestmark = pytest.mark.anyio

PIECE_COUNT = 40

EMIT: LiteralString = "select outbox.emit('t', '{}', %s) from generate_series(1, %s)"
CACHE_IDS: LiteralString = "alter table outbox.events alter column id set cache 1000"
REFUSE_TO_SEND: LiteralString = """
create schema broken;
create function broken.int8send(bigint) returns bytea language plpgsql as $$
begin
  if $1 >= current_setting('broken.from')::bigint then raise exception 'broken'; end if;
  return pg_catalog.int8send($1);
end $$;
"""
TAKE_TOO_LONG: LiteralString = """
create schema broken_list;
create schema broken_bounds;
create function broken_list.give_up(bigint) returns bigint language plpgsql as $$
begin raise exception using errcode = 'query_canceled'; end $$;
create function broken_bounds.give_up(bigint, bigint) returns bigint language plpgsql as $$
begin raise exception using errcode = 'query_canceled'; end $$;
create aggregate broken_list.count(*) (sfunc = broken_list.give_up, stype = bigint);
create aggregate broken_bounds.max(bigint) (sfunc = broken_bounds.give_up, stype = bigint);
"""
LOOK_TOO_LONG: LiteralString = """
create schema broken_look;
create function broken_look.pg_visible_in_snapshot(xid8, pg_snapshot) returns boolean language plpgsql as $$
begin
  if current_query() like '%w.snapshot::text%' then raise exception using errcode = 'query_canceled'; end if;
  return pg_catalog.pg_visible_in_snapshot($1, $2);
end $$;
"""


class NotingCursor(AsyncCursor[TupleRow]):
    """A binary cursor that notes what it executes."""

    def __init__(self, connection: Store) -> None:
        super().__init__(connection)
        self.format = Format.BINARY
        self.noted: list[tuple[Any, Any]] = []

    async def execute(self, query: Any, params: Any = None, **how: Any) -> Self:
        """Execute, and note it."""
        self.noted.append((query, params))
        return await super().execute(query, params, **how)


@dataclass
class Window:
    """A window, and the ids of its events in order."""

    seen: str
    snapshot: str
    event_ids: list[EventId]

    def listing(self, cursor: AsyncCursor[TupleRow], *, position: int = 0, unsettled: bool = False) -> Listing:
        """What is to be listed of it."""
        lanes = encode_lanes(LANES)
        return Listing(cursor, self.seen, self.snapshot, position, lanes, unsettled=unsettled, piece_count=PIECE_COUNT)


async def emit_many(connection: AsyncConnection[Any], count: int, key: str | None = None) -> list[EventId]:
    """Emit in one transaction."""
    return [row[0] for row in await rows(connection, EMIT, [key, count])]


async def a_window(database: str, connection: Store, *, before: int, behind: int) -> Window:
    """A window of 150 events, with a transaction that ends after it among them, and others before and behind it."""
    async with await reading(database) as later:
        await emit_many(connection, before)
        seen = await take_snapshot(connection)
        event_ids = await emit_many(connection, 75)
        await later.execute("begin")
        await emit_many(later, 30)
        event_ids += await emit_many(connection, 75)
        window = Window(seen, await take_snapshot(connection), event_ids)
        await later.execute("commit")
        await emit_many(connection, behind)
        return window


async def list_out(listing: Listing) -> list[int]:
    """List to the end."""
    found: list[int] = []
    await listing.begin()
    while not listing.is_read_out:
        some = listing.peek(7)
        assert listing.left_count >= len(some)
        found += some
        await listing.advance(len(some))
    return found


async def test_a_large_window_costs_what_it_holds_and_not_what_the_log_keeps(database: str) -> None:
    """However many events lie before it and behind it: so many statements, which look at so many rows."""
    async with await reading(database) as connection:
        costs: list[float] = []
        for before, behind in [(10, 100), (3000, 2000)]:
            window = await a_window(database, connection, before=before, behind=behind)
            cursor = NotingCursor(connection)
            assert await list_out(window.listing(cursor)) == window.event_ids
            statements = [asked[0] for asked in cursor.noted]
            assert statements == [LIST_WINDOW, FIND_BOUNDS, FIND_PIECES, *[LIST_PIECE] * -(-(150 + 30) // PIECE_COUNT)]
            costs.append(sum([await events_read(connection, *asked) for asked in cursor.noted]))
        assert costs[0] == costs[1]


@pytest.mark.parametrize("unsettled", [False, True])
async def test_a_large_window_is_listed_on_from_a_position_inside_of_it(database: str, unsettled: bool) -> None:
    """Whatever its pieces were before; nothing is left behind the last event, and not all may be left after another."""
    async with await reading(database) as connection:
        window = await a_window(database, connection, before=50, behind=50)
        settled = window.event_ids[60:130]
        await connection.execute(
            "insert into outbox.receipts (event_id, outcome, attempts, deferrals, relay_id)"
            " select unnest(%s::bigint[]), 'published', 0, 0, 1",
            [settled],
        )
        for taken in (1, 39, 40, 41, 80, 149, 150):
            rest = [each for each in window.event_ids[taken:] if not unsettled or each not in settled]
            cursor = connection.cursor(binary=True)
            position = window.event_ids[taken - 1]
            assert await list_out(window.listing(cursor, position=position, unsettled=unsettled)) == rest


async def test_a_large_window_begins_and_ends_with_ids_that_do_not_follow_xids(database: str) -> None:
    """A session may have taken its ids long before, and a transaction its xid; another may have ended late."""
    async with (
        await reading(database) as connection,
        await reading(database) as cached,
        await reading(database) as early,
        await reading(database) as late,
    ):
        reader = LogReader(connection, LANES, Cursor(), slice_count=10, piece_count=PIECE_COUNT)
        await connection.execute(CACHE_IDS)
        await early.execute("begin")
        await early.execute("select pg_current_xact_id()")
        await late.execute("begin")
        straggler = await emit(late, "t", {})
        before = [await emit(cached, "t", {}), *await emit_many(connection, 100)]
        assert ids(await read_out(reader)) == sorted(before)

        emitted = [straggler, *await emit_many(connection, 50)]
        emitted += [await emit(cached, "t", {}), await emit(early, "t", {})]
        await early.execute("commit")
        await late.execute("commit")
        assert emitted[0] < before[0] < emitted[-2] < before[1]
        assert emitted[-1] == max(emitted)
        assert ids(await read_out(reader)) == sorted(emitted)


@pytest.mark.parametrize("broken", ["broken_list", "broken_bounds", "broken_list, broken_bounds"])
async def test_a_window_too_large_to_be_looked_through_in_time_is_listed_nevertheless(
    database: str, broken: str
) -> None:
    """Between the position and the end of the log, past what is not of it."""
    async with await reading(database) as connection:
        window = await a_window(database, connection, before=100, behind=100)
        await connection.execute(TAKE_TOO_LONG)
        await connection.execute("select set_config('search_path', %s, false)", [f"{broken}, pg_catalog"])
        for position in (0, window.event_ids[99]):
            cursor = NotingCursor(connection)
            rest = [each for each in window.event_ids if each > position]
            assert await list_out(window.listing(cursor, position=position)) == rest
            assert [asked[0] for asked in cursor.noted].count(FIND_BOUNDS) == 1


@pytest.mark.parametrize("parts_crowd", [False, True])
async def test_a_look_that_passes_too_many_events_of_others_in_its_time_lists_them(
    database: str, parts_crowd: bool
) -> None:
    """At once, and not again and again: a relay whose look never ends would never deliver anything."""
    async with await reading(database) as connection:
        of_lanes = [await emit(connection, "t", {}, key="k") for _ in range(3)]
        await connection.execute(LOOK_TOO_LONG)
        await connection.execute("set search_path = broken_look, pg_catalog")
        reader = LogReader(connection, LANES, Cursor(), parts_crowd=parts_crowd)
        assert ids(await read_out(reader)) == of_lanes
        of_lanes = [await emit(connection, "t", {}, key="k") for _ in range(3)]
        assert ids(await read_out(reader)) == of_lanes


@pytest.mark.parametrize(
    "step",
    [lambda listing: listing.advance(20), lambda listing: listing.take_out("k")],
    ids=["advance", "take_out"],
)
async def test_a_failure_to_list_on_leaves_everything_where_it_was(
    database: str, step: Callable[[Listing], Coroutine[Any, Any, Any]]
) -> None:
    """No id is let go of before those after it are listed."""
    async with await reading(database) as connection:
        seen = await take_snapshot(connection)
        async with connection.transaction():
            of_key = await emit_many(connection, PIECE_COUNT, "k")
            others = await emit_many(connection, PIECE_COUNT, "other")
        window = Window(seen, await take_snapshot(connection), of_key + others)
        listing = window.listing(connection.cursor(binary=True))
        await listing.begin()
        await listing.advance(20)
        assert list(listing.peek(100)) == of_key[20:]
        left_count = listing.left_count
        await connection.execute(REFUSE_TO_SEND)
        await connection.execute("select set_config('broken.from', %s, false)", [str(others[0])])
        await connection.execute("set search_path = broken, pg_catalog")
        with pytest.raises(psycopg.errors.RaiseException):
            await step(listing)
        assert (list(listing.peek(100)), listing.left_count) == (of_key[20:], left_count)
        await connection.execute("reset search_path")
        taken = await step(listing)
        assert taken is None or list(taken) == of_key[20:]
        assert list(listing.peek(100)) == others
