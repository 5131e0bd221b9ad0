"""The shipped log reader, against writers that commit out of order, abort, linger and prepare."""

from __future__ import annotations

import json
import random
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString

import anyio
import anyio.to_thread
import psycopg
import pytest
from psycopg import AsyncConnection

from outbox import database as connections
from outbox.emit import emit
from outbox.encode import encode_lanes
from outbox.event import LANE_COUNT, Event, EventId, Lane
from outbox.listing import LIST_WINDOW
from outbox.log import READ_NEXT_WINDOW, LogReader, fetch, load_cursors, take_snapshot
from outbox.low_water import Cursor, LowWater, Spilled
from tests.outbox.store import Store, events, ids

pytestmark = pytest.mark.anyio

LANES = [Lane(lane) for lane in range(LANE_COUNT)]
WRITERS = 8
TRANSACTIONS = 60


@dataclass
class Written:
    """What a writer committed, in its order; what it prepared commits when somebody gets to it."""

    writer: int
    ordered: list[EventId] = field(default_factory=list)
    prepared: list[EventId] = field(default_factory=list)


def write(dsn: str, writer: int, seed: int) -> Written:
    """Emit in transactions of every kind: short, long, aborted, with rolled-back savepoints, prepared."""
    chance = random.Random(seed * 1000 + writer)
    written = Written(writer)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for number in range(TRANSACTIONS):
            kind = chance.choice(["commit", "commit", "commit", "abort", "savepoint", "straggler", "prepare"])
            payload = {"writer": writer, "number": number}
            connection.execute("begin")
            if kind == "straggler" and chance.random() < 0.5:
                connection.execute("select pg_current_xact_id()")  # a low xid that emits late
            if kind == "straggler":
                connection.execute("select pg_sleep(%s)", [chance.uniform(0.02, 0.2)])
            if kind == "prepare":
                connection.execute("set local outbox.ring = 'off'")
            events = [emit(connection, "t", payload) for _ in range(chance.randint(1, 3))]
            if kind == "savepoint":
                connection.execute("savepoint s")
                emit(connection, "t", {"writer": writer, "number": -1})
                connection.execute("rollback to savepoint s")
                events.append(emit(connection, "t", payload))
            if kind == "straggler":
                connection.execute("select pg_sleep(%s)", [chance.uniform(0.02, 0.1)])
                events.append(emit(connection, "t", payload))
            if kind == "prepare":
                connection.execute(f"prepare transaction 'p{seed}_{writer}_{number}'".encode())
                connection.execute("select pg_sleep(%s)", [chance.uniform(0.0, 0.1)])
                connection.execute(f"commit prepared 'p{seed}_{writer}_{number}'".encode())
                written.prepared += events
            elif kind == "abort":
                connection.execute("rollback")
            else:
                connection.execute("commit")
                written.ordered += events
    return written


async def read_out(reader: LogReader) -> list[Event]:
    """Read until a look finds nothing."""
    found: list[Event] = []
    while events := await reader.read():
        found += events
    return found


async def reading(dsn: str) -> AsyncConnection[Any]:
    return await connections.connect(dsn, application_name="test", settings=connections.PLANNER_SETTINGS)


@pytest.mark.parametrize(("seed", "slice_count", "piece_count"), [(1, 1000, 1000), (2, 7, 1000), (3, 7, 12)])
async def test_each_committed_event_is_read_exactly_once_and_in_order(
    database: str, seed: int, slice_count: int, piece_count: int
) -> None:
    """Whatever commits is read once; whatever aborts never; each writer's commits in their order."""
    found: list[Event] = []
    finished = anyio.Event()
    results: list[Written] = []

    async def one_writer(writer: int) -> None:
        results.append(await anyio.to_thread.run_sync(write, database, writer, seed))

    async def read(connection: AsyncConnection[Any]) -> None:
        reader = LogReader(connection, LANES, Cursor(), slice_count, piece_count)
        while True:
            last = finished.is_set()
            found.extend(await read_out(reader))
            if last:
                return

    async with await reading(database) as connection, anyio.create_task_group() as readers:
        readers.start_soon(read, connection)
        async with anyio.create_task_group() as writers:
            for writer in range(WRITERS):
                writers.start_soon(one_writer, writer)
        finished.set()

    position = {event.id: at for at, event in enumerate(found)}
    committed = [event_id for written in results for event_id in written.ordered + written.prepared]
    assert len(committed) > WRITERS * TRANSACTIONS // 2
    assert sorted(event.id for event in found) == sorted(committed)
    for written in results:
        positions = [position[event_id] for event_id in written.ordered]
        assert positions == sorted(positions)


async def test_nothing_overtakes_what_was_committed_before_it_was_emitted(database: str) -> None:
    """An event whose predecessor had committed before it was emitted, in another session, comes after it."""
    async with (
        await reading(database) as connection,
        await connections.connect(database, application_name="a") as first,
        await connections.connect(database, application_name="b") as second,
    ):
        reader = LogReader(connection, LANES, Cursor())
        await first.execute("begin")
        late = await emit(first, "t", {})
        early = await emit(second, "t", {})
        assert [event.id for event in await read_out(reader)] == [early]
        await first.execute("commit")
        after = await emit(second, "t", {})
        assert [event.id for event in await read_out(reader)] == [late, after]


async def test_a_low_xid_that_emits_late_is_read_in_the_order_of_ids(database: str) -> None:
    """Inside a window the order is by id, not by transaction."""
    async with (
        await reading(database) as connection,
        await connections.connect(database, application_name="a") as first,
        await connections.connect(database, application_name="b") as second,
    ):
        await first.execute("begin")
        await first.execute("select pg_current_xact_id()")
        early = await emit(second, "t", {})
        late = await emit(first, "t", {})
        await first.execute("commit")
        reader = LogReader(connection, LANES, Cursor())
        assert [event.id for event in await read_out(reader)] == [early, late]


async def test_a_window_larger_than_a_slice_is_read_by_position(database: str) -> None:
    """Events that come while a large window is read wait for the next one, and nothing is read twice."""
    async with await reading(database) as connection:
        await connection.execute("select count(outbox.emit('t', '{}')) from generate_series(1, 100)")
        reader = LogReader(connection, LANES, Cursor(), slice_count=30)
        first = await reader.read()
        window = reader.cursor.window
        later = await emit(connection, "t", {})
        rest = [await reader.read() for _ in range(3)]
        assert [len(first), *map(len, rest)] == [30, 30, 30, 10]
        assert reader.cursor.window == window
        assert [event.id for event in await read_out(reader)] == [later]


async def test_a_very_large_window_is_listed_in_pieces(database: str) -> None:
    """Up to the window's end, past what is not in it, and over a gap that no number of pieces would bridge."""
    async with await reading(database) as connection, await reading(database) as open_one:
        await open_one.execute("begin")
        open_id = await emit(open_one, "t", {})
        emitted = [await emit(connection, "t", {}) for _ in range(25)]
        await connection.execute("select setval(pg_get_serial_sequence('outbox.events', 'id'), 1000000000000000)")
        emitted += [await emit(connection, "t", {}) for _ in range(25)]
        reader = LogReader(connection, LANES, Cursor(), slice_count=10, piece_count=8)
        with anyio.fail_after(60):
            found = await reader.read()
            assert reader.unread_count >= 40
            later = [await emit(connection, "t", {}) for _ in range(20)]
            await open_one.execute("commit")
            while not reader.stands_at(None):
                found += await reader.read()
        assert [event.id for event in found] == emitted
        assert [event.id for event in await read_out(reader)] == [open_id, *later]


async def test_only_the_lanes_asked_for_are_read(database: str) -> None:
    """Two readers with disjoint lanes share the log between them."""
    async with await reading(database) as connection:
        await connection.execute("select count(outbox.emit('t', '{}', 'k' || i)) from generate_series(1, 200) as i")
        even = await read_out(LogReader(connection, LANES[::2], Cursor()))
        odd = await read_out(LogReader(connection, LANES[1::2], Cursor()))
        assert {event.lane % 2 for event in even} == {0}
        assert len({event.id for event in even + odd}) == len(even) + len(odd) == 200


async def settle_some(connection: AsyncConnection[Any], event_ids: Sequence[EventId]) -> None:
    """Write receipts and waiting rows, alternately, as a relay would."""
    await connection.execute(
        "insert into outbox.receipts (event_id, outcome, attempts, deferrals, relay_id)"
        " select unnest(%s::bigint[]), 'published', 0, 0, 1",
        [event_ids[::2]],
    )
    await connection.execute(
        "insert into outbox.waiting (event_id, lane, reason, due_at, attempts, deferrals)"
        " select unnest(%s::bigint[]), 0, 'retry', now(), 1, 0",
        [event_ids[1::2]],
    )


@pytest.mark.parametrize("seed", range(4))
async def test_a_successor_that_begins_at_the_low_water_finds_what_was_in_hand(database: str, seed: int) -> None:
    """However many windows a reader read and in whatever order they settled: its successor reads the unsettled."""
    chance = random.Random(seed)
    async with await reading(database) as connection:
        # Two of the seeds list the windows in pieces.
        reader = LogReader(connection, LANES, Cursor(), slice_count=5, piece_count=6 if seed % 2 else 1000)
        emitted: list[EventId] = []
        settled: set[EventId] = set()
        in_hand: list[EventId] = []
        saved = Cursor()
        for _ in range(12):
            emitted += [await emit(connection, "t", {}) for _ in range(chance.randint(0, 9))]
            for _ in range(chance.randint(0, 3)):
                in_hand += [event.id for event in await reader.read()]
            chance.shuffle(in_hand)
            some, in_hand = in_hand[: len(in_hand) // 2], in_hand[len(in_hand) // 2 :]
            await settle_some(connection, some)
            reader.hand.settled(some)
            settled.update(some)
            if chance.random() < 0.5:
                [(_, saved)] = reader.hand.low_waters()
        successor = LogReader(connection, LANES, saved, slice_count=4, piece_count=3 if seed % 2 else 1000)
        found = [event.id for event in await read_out(successor)]
        assert sorted(found) == sorted(set(emitted) - settled)
        assert len(found) == len(set(found))


async def test_saved_cursors_are_loaded_by_the_lanes_that_share_them(database: str) -> None:
    """Lanes that stand in one window are read together, from the first position of theirs: at first all of them."""
    async with await reading(database) as connection:
        assert await load_cursors(connection, LANES) == [(Cursor(), LANES)]
        await connection.execute("update outbox.cursors set \"window\" = '5:5:', position = lane where lane in (3, 4)")
        loaded = {tuple(lanes): cursor for cursor, lanes in await load_cursors(connection, LANES[:6])}
        assert loaded == {(0, 1, 2, 5): Cursor(), (3, 4): Cursor(window="5:5:", position=3)}


@pytest.mark.parametrize("seed", range(22))
async def test_lanes_that_go_from_reader_to_reader_are_read_exactly_once(  # noqa: C901 (a world of two relays)
    database: str, seed: int
) -> None:
    """Whatever is in hand or unread when they go; and readers that come to one snapshot go on as one."""
    chance = random.Random(seed)
    async with await reading(database) as connection:
        relays: list[list[LogReader]] = [[LogReader(connection, LANES, Cursor(), slice_count=3)], []]
        in_hand: list[dict[EventId, Event]] = [{}, {}]
        emitted: list[EventId] = []
        settled: list[EventId] = []

        async def look(number: int) -> None:
            target = await take_snapshot(connection)
            for reader in relays[number]:
                while not reader.stands_at(target):
                    in_hand[number] |= {event.id: event for event in await reader.read(target)}
            for other in relays[number][1:]:
                relays[number][0].join(other)
            del relays[number][1:]

        async def settle_half(number: int) -> None:
            event_ids = chance.sample(sorted(in_hand[number]), len(in_hand[number]) // 2)
            await settle_some(connection, event_ids)
            settled.extend(event_ids)
            for reader in relays[number]:
                reader.hand.settled(event_ids)
            for event_id in event_ids:
                del in_hand[number][event_id]

        def hand_over(giver: int) -> None:
            lanes = frozenset(Lane(lane) for lane in chance.sample(range(LANE_COUNT), 20))
            for reader in list(relays[giver]):
                for lane, departure in reader.detach(lanes).items():
                    relays[1 - giver].append(LogReader(connection, [lane], departure.low_water(), slice_count=2))
            in_hand[giver] = {key: event for key, event in in_hand[giver].items() if event.lane not in lanes}

        async def left_to_successors() -> list[EventId]:
            """What those read who begin at the low waters of all readers, as after a crash."""
            waters = [water for readers in relays for reader in readers for water in reader.hand.low_waters()]
            successors = [LogReader(connection, lanes, cursor) for lanes, cursor in waters]
            return [event_id for successor in successors for event_id in ids(await read_out(successor))]

        for _ in range(8):
            emitted += [await emit(connection, "t", {}) for _ in range(chance.randint(0, 30))]
            for number in (0, 1):
                if relays[number] and chance.random() < 0.5:
                    reader = chance.choice(relays[number])
                    in_hand[number] |= {event.id: event for event in await reader.read()}
                if chance.random() < 0.5:
                    await look(number)
                relays[number] += [
                    reader.part(chance.choice(reader.lanes), connection)
                    for reader in relays[number]
                    if len(reader.lanes) > 1 and reader.stands_at(None) and chance.random() < 0.3
                ]
                await settle_half(number)
            hand_over(chance.randint(0, 1))
            assert sorted(await left_to_successors()) == sorted(set(emitted) - set(settled))
        for number in (0, 1):
            await look(number)
            assert len(relays[number]) == 1
        left = [*in_hand[0], *in_hand[1]]
        assert sorted(settled + left) == sorted(emitted)
        assert sorted(lane for readers in relays for reader in readers for lane in reader.lanes) == LANES


async def test_what_is_spilled_is_not_settled(store: Store) -> None:
    """Its ids are kept, in order; the low water stands before them, and they come back to be settled."""
    of = await events(store, 5, key="k")
    [other] = await events(store, 1, key="l")
    reader = LogReader(store, LANES, Cursor())
    while not await reader.read():
        pass
    spilled = None
    for each in of[1:]:
        spilled = reader.hand.spill(each, spilled) or spilled
    assert spilled is not None
    assert len(spilled) == 4
    reader.hand.settled([of[0].id, other.id])
    assert len(reader.hand) == 0
    assert reader.hand.oldest_at() == of[1].created_at
    [(_, cursor)] = reader.hand.low_waters()
    assert cursor.position == of[1].id - 1

    head = spilled.head(2)
    assert head == ids(of[1:3])
    spilled.take_back(2, await fetch(store, head))
    reader.hand.settled(head)
    [(_, cursor)] = reader.hand.low_waters()
    assert cursor.position == of[3].id - 1
    assert await reader.read() == []
    departure = reader.detach([of[0].lane])[of[0].lane]
    assert departure.low_water().position == of[3].id - 1


@pytest.mark.parametrize("parts_crowd", [False, True])
@pytest.mark.parametrize("seed", range(6))
async def test_what_is_passed_over_of_a_key_is_neither_lost_nor_read_twice(  # noqa: C901 (a relay's whole life)
    database: str, seed: int, parts_crowd: bool
) -> None:
    """A successor finds all that is not settled, and who takes it back piece by piece, has it in its order."""
    chance = random.Random(seed)
    async with await reading(database) as connection:
        piece_count = 9 if seed % 2 else 1000
        first = LogReader(connection, LANES, Cursor(), slice_count=4, piece_count=piece_count, parts_crowd=parts_crowd)
        readers = [first]
        emitted: dict[EventId, str] = {}
        settled: set[EventId] = set()
        in_hand: list[Event] = []
        spilled: deque[Spilled] = deque()
        saved: list[tuple[Sequence[Lane], Cursor]] = [(LANES, Cursor())]
        hot: list[EventId] = []
        parted: list[str] = []

        async def settle(some: list[Event]) -> None:
            nonlocal in_hand
            await settle_some(connection, ids(some))
            for reader in readers:
                reader.hand.settled(ids(some))
            settled.update(ids(some))
            in_hand = [event for event in in_hand if event.id not in settled]

        async def take_back() -> None:
            head = spilled[0].head(3)
            back = await fetch(connection, head)
            spilled[0].take_back(len(head), back)
            in_hand.extend(back)
            hot.extend(head)
            if not spilled[0]:
                spilled.popleft()

        async def read(reader: LogReader, target: str | None = None) -> None:
            events = await reader.read(target)
            if (lane := reader.crowded_lane) is not None:
                readers.append(reader.part(lane, connection))
            if (crowd := reader.crowd) is not None:
                assert crowd.key is not None
                apart = await reader.unlist(crowd.key)
                parted.append(crowd.key)
                kept = reader.hand.spill_unread(crowd, apart, spilled[-1] if spilled and crowd.key == "hot" else None)
                if crowd.key == "hot":
                    keep(kept)
                elif kept is not None:
                    back = await fetch(connection, kept.head(len(kept)))
                    kept.take_back(len(back), back)
                    in_hand.extend(back)
            for event in events:
                if event.key == "hot" and spilled:
                    keep(reader.hand.spill(event, spilled[-1]))
                else:
                    in_hand.append(event)
                    hot.extend([event.id] if event.key == "hot" else [])
            of_key = next((event for event in in_hand if event.key == "hot"), None)
            if of_key is not None and chance.random() < 0.5 and (event_ids := await reader.unlist("hot")):
                keep(reader.hand.spill_unread(of_key, event_ids, spilled[-1] if spilled else None))

        def keep(kept: Spilled | None) -> None:
            assert kept is not None
            if not spilled or spilled[-1] is not kept:
                spilled.append(kept)

        async def join() -> None:
            """Have all readers go on as one."""
            target = await take_snapshot(connection)
            while unread := [reader for reader in readers if not reader.stands_at(target)]:
                await read(unread[0], target)
            for other in readers[1:]:
                readers[0].join(other)
            del readers[1:]

        for _ in range(14):
            async with connection.transaction():
                for _ in range(chance.randint(0, 25)):
                    key = chance.choice(("hot", "hot", "a", "b"))
                    emitted[await emit(connection, "t", {}, key=key)] = key
            for _ in range(chance.randint(0, 4)):
                await read(chance.choice(readers))
            if chance.random() < 0.3:
                await join()
            await settle(chance.sample(in_hand, len(in_hand) // 2))
            if spilled and chance.random() < 0.5:
                await take_back()
            if chance.random() < 0.5:
                saved = [water for reader in readers for water in reader.hand.low_waters()]
        found = []
        for lanes, cursor in saved:
            successor = LogReader(connection, lanes, cursor, slice_count=4, piece_count=3 if seed % 2 else 1000)
            found += ids(await read_out(successor))
        assert sorted(found) == sorted(set(emitted) - settled)

        expected = [event_id for event_id, key in emitted.items() if key == "hot"]
        for _ in expected:
            for reader in readers:
                await read(reader)
            while spilled:
                await take_back()
        assert hot == expected
        assert ("hot" in parted) == parts_crowd


def test_the_low_water_stands_where_the_first_event_in_hand_is() -> None:
    """Later windows that are settled do not move it past an earlier one that is not."""
    water = LowWater(Cursor())
    water.begin("1:1:", "9:9:")
    water.read([an_event(3), an_event(5)], 5)
    water.begin("9:9:", "20:20:")
    water.read([an_event(4)], 4)
    water.settled([EventId(4), EventId(3)])
    assert water.cursor() == Cursor("1:1:", "9:9:", 4)
    water.settled([EventId(5)])
    assert water.cursor() == Cursor("9:9:", "20:20:", 4)
    assert water.in_hand_count == 0


def an_event(number: int) -> Event:
    return Event(*[number, 0, None, None, "t", {}, {}, None, None, None, None])  # type: ignore[arg-type]


async def plan_nodes(connection: AsyncConnection[Any], statement: str) -> dict[str, list[str]]:
    """Return the plan's node types by relation; the empty name holds those without one."""
    row = await (await connection.execute(f"explain (format json) {statement}".encode())).fetchone()
    assert row is not None
    plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
    nodes: dict[str, list[str]] = defaultdict(list)

    def visit(node: dict[str, Any]) -> None:
        nodes[node.get("Relation Name", "")].append(f"{node['Node Type']} {node.get('Index Name', '')}".strip())
        for child in node.get("Plans", []):
            visit(child)

    visit(plan[0]["Plan"])
    return nodes


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("says", ["w.snapshot::text", "found as materialized", "min(e.id), max(e.id)"])
async def test_the_window_is_read_by_two_range_scans_of_the_index_on_xid(
    database: str, analyzed: bool, says: str
) -> None:
    """Also as a generic plan, and on tables that were never analyzed: no bitmap, no scan of the whole table."""
    async with await reading(database) as connection:
        await connection.execute("alter table outbox.events set (autovacuum_enabled = off)")
        await connection.execute("select count(outbox.emit('t', '{}')) from generate_series(1, 20000)")
        if analyzed:
            await connection.execute("analyze outbox.events")
        reader = LogReader(connection, LANES, Cursor(), slice_count=100, piece_count=7000)
        await read_out(reader)
        rows = await (
            await connection.execute(
                "select name, cardinality(parameter_types) from pg_prepared_statements where statement like %s",
                [f"%{says}%"],
            )
        ).fetchall()
        assert rows
        for name, parameter_count in rows:
            arguments = ", ".join(["null"] * parameter_count)
            nodes = await plan_nodes(connection, f"execute {name} ({arguments})")
            assert nodes["events"] == ["Index Scan events_by_xid"] * 2


async def test_what_a_look_reads_of_a_large_window_does_not_grow_with_it(database: str) -> None:
    """A bulk commit under a relay at work: a slice tells that it is large, and no statement reads more than a piece."""
    async with await reading(database) as connection:
        seen = await take_snapshot(connection)
        await connection.execute("select count(outbox.emit('t', '{}')) from generate_series(1, 5000)")
        window = {"seen": seen, "lanes": encode_lanes(LANES)}
        look = {**window, "target": None, "limit": 101}
        assert await events_read(connection, READ_NEXT_WINDOW, look) == 101
        piece = {
            **window,
            "window": await take_snapshot(connection),
            "position": 0,
            "unsettled": False,
            "key": None,
            "apart": None,
            "limit": 700,
        }
        assert await events_read(connection, LIST_WINDOW, piece) == 700
        assert await (await connection.execute(LIST_WINDOW, piece)).fetchall() == [(700, None, None)]


async def events_read(connection: AsyncConnection[Any], statement: LiteralString, arguments: dict[str, Any]) -> float:
    """Run a statement, and return how many rows of the log it looked at."""
    row = await (await connection.execute(f"explain (analyze, format json) {statement}", arguments)).fetchone()
    assert row is not None

    def count(node: dict[str, Any]) -> float:
        own: float = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        return (own if node.get("Relation Name") == "events" else 0) + sum(map(count, node.get("Plans", [])))

    return count(row[0][0]["Plan"])


@pytest.mark.parametrize("analyzed", [False, True])
async def test_a_piece_of_a_very_large_window_is_a_range_scan_of_the_primary_key(database: str, analyzed: bool) -> None:
    """Whatever the table holds, a piece costs what lies between its two ids; and to find them, a probe."""
    async with await reading(database) as connection:
        await connection.execute("alter table outbox.events set (autovacuum_enabled = off)")
        await connection.execute("select count(outbox.emit('t', '{}')) from generate_series(1, 20000)")
        if analyzed:
            await connection.execute("analyze outbox.events")
        assert len(await read_out(LogReader(connection, LANES, Cursor(), piece_count=7000))) == 20_000
        find = "select name, cardinality(parameter_types) from pg_prepared_statements where statement like %s"
        for says, scan in (("%e.id <=%", "Index Scan"), ("%recursive piece%", "Index Only Scan")):
            rows = await (await connection.execute(find, [says])).fetchall()
            assert rows
            for name, parameter_count in rows:
                nodes = await plan_nodes(connection, f"execute {name} ({', '.join(['null'] * parameter_count)})")
                assert set(nodes["events"]) == {f"{scan} events_pkey"}


async def test_a_look_that_finds_nothing_leaves_the_cursor_saved_as_it_was_found(database: str) -> None:
    """An empty window moves the reader on, and nothing in hand holds the low water back."""
    async with await reading(database) as connection:
        reader = LogReader(connection, LANES, Cursor())
        await emit(connection, "t", {})
        (event,) = await read_out(reader)
        before = reader.hand.low_waters()
        await connection.execute("select pg_current_xact_id()")
        assert await reader.read() == []
        assert reader.hand.low_waters() == before
        reader.hand.settled([event.id])
        assert reader.hand.low_waters() == [(LANES, reader.cursor)]
        assert reader.hand.low_waters() != before


@pytest.mark.parametrize("payload", ['{"a": 1e400}', '{"a": ' + "[" * 2000 + "]" * 2000 + "}"])
async def test_json_that_python_cannot_read_does_not_stop_the_log(database: str, payload: str) -> None:
    """PostgreSQL takes it, so an emitter may write it: the event comes with an object that no handler understands."""
    async with await reading(database) as connection:
        await connection.execute("select outbox.emit('t', %s::jsonb)", [payload])
        after = await emit(connection, "t", {})
        unreadable, readable = await read_out(LogReader(connection, LANES, Cursor()))
        assert list(unreadable.payload) == ["unreadable"]
        assert readable.id == after
