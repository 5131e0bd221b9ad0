"""What a look at the log costs: one statement for each distinct cursor, and so nearly always one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import LiteralString

import pytest

from outbox.event import LANE_COUNT
from schema.embedded import EmbeddedPostgres
from tests.relay.running import Script, Store, all_settled, rows, settings, value, working
from tests.relay.statements import FETCH, LIST, LOOK, Counted, counting
from tests.relay.test_sharing import shared

pytestmark = pytest.mark.anyio

EMIT_UNHEARD: LiteralString = """
with quiet as materialized (select set_config('outbox.ring', 'off', true)),
keys as (
  select min('k' || n) as key, hashtextextended('k' || n, 0) & 63 as lane from generate_series(1, 2000) as n group by 2
)
select count(outbox.emit('t', '{"name": "a"}', key)) from quiet, keys where lane between %s and %s
"""
ADVANCE: LiteralString = """
update outbox.cursors set seen = pg_current_snapshot(), "window" = pg_current_snapshot() where lane >= %s
"""
CURSORS: LiteralString = 'select count(distinct (seen::text, "window"::text)) from outbox.cursors'


async def ring(store: Store, settled_count: int, lanes: Sequence[int] = (7,)) -> None:
    """Emit an event in each lane, and have whoever owns some lanes look once; return when all have ended."""
    await store.execute(EMIT_UNHEARD, [0, LANE_COUNT - 1])
    await store.execute("select pg_notify('outbox', lane::text) from unnest(%s::integer[]) as lane", [list(lanes)])
    await all_settled(store, settled_count, seconds=60)


async def looks_cost_one_statement(counted: Counted) -> None:
    """Three looks that find something in every lane are three statements."""
    before = await counted.quiet(LOOK)
    listed, fetched = await counted.calls(LIST), await counted.calls(FETCH)
    settled_count = int(await value(counted.store, "select count(*) from outbox.receipts"))
    for number in range(1, 4):
        await ring(counted.store, settled_count + number * LANE_COUNT)
    assert await counted.calls(LOOK) == before + 3
    assert (await counted.calls(LIST), await counted.calls(FETCH)) == (listed, fetched)


async def test_a_look_is_one_statement_for_all_lanes(own_server: Callable[..., EmbeddedPostgres]) -> None:
    """However many events it finds, up to a slice."""
    async with counting(own_server) as counted, working(settings(counted.dsn, lease_seconds=60.0), Script()):
        await looks_cost_one_statement(counted)


async def test_lanes_that_stand_apart_are_read_with_a_statement_a_cursor_and_then_together(
    own_server: Callable[..., EmbeddedPostgres],
) -> None:
    """Three cursors, of 21, 21 and 22 lanes: each catches up with two listings and a fetch; then a look is for all."""
    async with counting(own_server) as counted:
        store = counted.store
        await store.execute(EMIT_UNHEARD, [0, 20])
        await store.execute(ADVANCE, [21])
        await store.execute(EMIT_UNHEARD, [21, 41])
        await store.execute(ADVANCE, [42])
        await store.execute(EMIT_UNHEARD, [42, 63])
        assert await rows(store, CURSORS) == [(3,)]
        async with working(settings(counted.dsn, lease_seconds=60.0), Script()):
            await all_settled(store, LANE_COUNT, seconds=60)
            await counted.quiet(LOOK)
            assert (await counted.calls(LIST), await counted.calls(FETCH)) == (2 * 3, 3)
            await looks_cost_one_statement(counted)


async def test_lanes_that_come_back_are_read_with_the_others(own_server: Callable[..., EmbeddedPostgres]) -> None:
    """Another relay took half of them, read them, and gave them back."""
    async with counting(own_server) as counted, working(settings(counted.dsn, lease_seconds=60.0), Script()):
        async with working(settings(counted.dsn, lease_seconds=60.0), Script()):
            await shared(counted.store, 32, 32)
            await ring(counted.store, LANE_COUNT, range(LANE_COUNT))
        await shared(counted.store, 64)
        await looks_cost_one_statement(counted)
