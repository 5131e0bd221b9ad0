"""What a failure leaves of a large window's listing."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import TupleRow

from outbox.encode import encode_numbers
from outbox.event import EventId
from outbox.listing import Listing
from outbox.log import take_snapshot
from tests.outbox.store import LANES, rows
from tests.outbox.test_log import reading

pytestmark = pytest.mark.anyio

PIECE_COUNT = 40

EMIT: LiteralString = "select outbox.emit('t', '{}', %s) from generate_series(1, %s)"
REFUSE_TO_SEND: LiteralString = """
create schema broken;
create function broken.int8send(bigint) returns bytea language plpgsql as $$
begin
  if $1 >= current_setting('broken.from')::bigint then raise exception 'broken'; end if;
  return pg_catalog.int8send($1);
end $$;
"""


@dataclass
class Window:
    """A window, and the ids of its events in order."""

    seen: str
    snapshot: str
    event_ids: list[EventId]

    def listing(self, cursor: AsyncCursor[TupleRow], *, position: int = 0, unsettled: bool = False) -> Listing:
        """What is to be listed of it."""
        lanes = encode_numbers(LANES)
        return Listing(cursor, self.seen, self.snapshot, position, lanes, unsettled=unsettled, piece_count=PIECE_COUNT)


async def emit_many(connection: AsyncConnection[Any], count: int, key: str | None = None) -> list[EventId]:
    """Emit in one transaction."""
    return [row[0] for row in await rows(connection, EMIT, [key, count])]


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
