"""Lanes, windows, low waters and settling against the shipped SQL: every interleaving that hypothesis thinks of.

A model in plain Python knows what was committed and what was settled; writers, relays, deaths and zombies act on a real
database in the order of the rules. After each example a last relay reads what is left: every committed event has
exactly one receipt, and no other event has one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, LiteralString

import psycopg
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from outbox import database as connections
from outbox import lease
from outbox.batch import Batch
from outbox.emit import emit
from outbox.errors import LeaseLost
from outbox.event import LANE_COUNT, Event, EventId, Lane, RelayId
from outbox.log import LogReader, fetch, load_cursors, take_snapshot
from outbox.low_water import Departure, Spilled
from outbox.settle import release, save_cursor, settle
from outbox.waiting import load_due
from tests.outbox.store import receipt, wait

WRITERS = 4
RELAYS = 3

RESET: LiteralString = """
truncate outbox.events, outbox.receipts, outbox.waiting, outbox.steps, outbox.attempts, outbox.relays;
update outbox.lanes set relay_id = null;
update outbox.cursors set seen = default, "window" = default, position = default;
"""
RUN_OUT: LiteralString = "update outbox.relays set leased_until = '2000-01-01' where id = %s and retired_at is null"
LANES_OF: LiteralString = "select key, hashtextextended(key, 0) & 63 from unnest(%s::text[]) as key"
BEFORE: LiteralString = """
select id from outbox.events
where id = any (%s)
  and (pg_visible_in_snapshot(xid, %s::pg_snapshot) or (pg_visible_in_snapshot(xid, %s::pg_snapshot) and id <= %s))
"""
ALL_DUE: LiteralString = "update outbox.waiting set due_at = '2000-01-01'"

NAMES = st.sampled_from("abcd")
KEYS = st.sampled_from([None, *"abcd"])
INDEX = st.integers(0, 1000)


@dataclass
class Writer:
    """A connection of an application, and what its open transaction has emitted; None between transactions."""

    connection: psycopg.Connection[Any]
    emitted: list[EventId] | None = None


@dataclass(eq=False)
class Relay:
    """An incarnation, and what it has in memory. A zombie keeps that, and is wrong about it."""

    id: RelayId
    readers: list[LogReader] = field(default_factory=list)
    spilled: list[Spilled] = field(default_factory=list)
    in_hand: dict[EventId, Event] = field(default_factory=dict)
    read: set[EventId] = field(default_factory=set)
    is_dead: bool = False
    is_retired: bool = False

    @property
    def lanes(self) -> list[Lane]:
        """What it believes to own."""
        return [lane for reader in self.readers for lane in reader.lanes]


class LogMachine(RuleBasedStateMachine):
    """Writers and relays on one database."""

    def __init__(self, dsn: str, portal: BlockingPortal) -> None:
        super().__init__()
        self.dsn, self.portal = dsn, portal
        self.clock = itertools.count(1)
        self.emitted_at: dict[EventId, int] = {}
        self.committed_at: dict[EventId, int] = {}
        self.lanes: dict[EventId, int] = {}
        self.receipts: set[EventId] = set()
        self.waiting: set[EventId] = set()
        self.relays: list[Relay] = []
        self.owner: dict[Lane, Relay] = {}
        self.store = portal.call(lambda: connections.connect(dsn, application_name="test"))
        self.reading = portal.call(
            lambda: connections.connect(dsn, application_name="test", settings=connections.PLANNER_SETTINGS)
        )
        self.observer = psycopg.connect(dsn, autocommit=True)
        self.observer.execute(RESET)
        self.lane_of = {key: Lane(lane) for key, lane in self.observer.execute(LANES_OF, [list("abcd")])}
        self.writers = [Writer(psycopg.connect(dsn, autocommit=True)) for _ in range(WRITERS)]

    @initialize()
    def someone_works(self) -> None:
        """Most examples are about relays: one is there from the start."""
        self.join()
        self.take(0)

    # Writers

    @rule(index=INDEX, takes_its_xid_first=st.booleans())
    def begin(self, index: int, takes_its_xid_first: bool) -> None:
        """A transaction begins; one that takes its xid early and emits late is a straggler."""
        writer = self.writers[index % WRITERS]
        if writer.emitted is None:
            writer.connection.execute("begin")
            writer.emitted = []
            if takes_its_xid_first:
                writer.connection.execute("select pg_current_xact_id()")

    @rule(index=INDEX, key=KEYS)
    def emit(self, index: int, key: str | None) -> None:
        """An event is emitted, in the open transaction or in one of its own."""
        writer = self.writers[index % WRITERS]
        event_id = self._emit(writer, key)
        if writer.emitted is None:
            self.committed_at[event_id] = next(self.clock)
        else:
            writer.emitted.append(event_id)

    @rule(index=INDEX, key=KEYS)
    def emit_and_roll_back_to_a_savepoint(self, index: int, key: str | None) -> None:
        """What a subtransaction emitted and rolled back never was."""
        writer = self.writers[index % WRITERS]
        if writer.emitted is not None:
            writer.connection.execute("savepoint s")
            self._emit(writer, key)
            writer.connection.execute("rollback to savepoint s")

    @rule(index=INDEX, aborts=st.sampled_from([False, False, True]))
    def end(self, index: int, aborts: bool) -> None:
        """A transaction commits or aborts."""
        writer = self.writers[index % WRITERS]
        if writer.emitted is not None:
            writer.connection.execute("rollback" if aborts else "commit")
            if not aborts:
                at = next(self.clock)
                self.committed_at.update((event_id, at) for event_id in writer.emitted)
            writer.emitted = None

    # Relays

    @precondition(lambda self: sum(not relay.is_dead for relay in self.relays) < RELAYS)
    @rule()
    def join(self) -> None:
        """A new incarnation owns nothing yet."""
        self.relays.append(self._await(self._join))

    @rule(index=INDEX)
    def take(self, index: int) -> None:
        """A relay retires those whose lease ran out, and takes what nobody owns, from the saved cursors on."""
        relay = self._living(index)
        if relay is not None:
            self._take(relay)

    @rule(index=INDEX)
    def read(self, index: int) -> None:
        """A relay reads a slice of each of its logs, and finds what it may find."""
        relay = self._living(index)
        if relay is not None:
            self._read(relay)

    @rule(index=INDEX, key=NAMES)
    def part(self, index: int, key: str) -> None:
        """A relay reads the lane of a key by itself from now on."""
        relay = self._living(index)
        for reader in list(relay.readers) if relay is not None else []:
            if relay is not None and self.lane_of[key] in reader.lanes and reader.stands_at(None):
                relay.readers += [reader.part(self.lane_of[key], self.reading)] if len(reader.lanes) > 1 else []

    @rule(index=INDEX, newest_first=st.booleans())
    def meet(self, index: int, newest_first: bool) -> None:
        """A relay has two of its readers read to one snapshot and go on as one."""
        relay = self._living(index)
        if relay is not None and len(relay.readers) > 1:
            self._meet(relay, relay.readers[-2:] if newest_first else relay.readers[:2])

    @rule(index=INDEX, keys=st.sets(NAMES, min_size=1), is_taken_back=st.booleans())
    def give_up(self, index: int, keys: set[str], is_taken_back: bool) -> None:
        """A relay frees the lanes of some keys: what is in hand of them is put back. It may take them once more."""
        relay = self._living(index)
        if relay is not None and (leaving := {self.lane_of[key] for key in keys}.intersection(relay.lanes)):
            self._give_up(relay, sorted(leaving))
            if is_taken_back:
                self._take(relay)

    @rule(index=INDEX, key=NAMES)
    def spill(self, index: int, key: str) -> None:
        """Of the events of a key that are in hand a relay keeps only the ids, but for the first."""
        relay = self._living(index)
        of_key = sorted(event.id for event in relay.in_hand.values() if event.key == key) if relay else []
        if relay is not None and of_key and all(each.lane != self.lanes[of_key[0]] for each in relay.spilled):
            for event_id in of_key[1:]:
                self._spill(relay, relay.in_hand[event_id])

    @rule(index=INDEX)
    def take_back(self, index: int) -> None:
        """A relay fetches what it has spilled."""
        relay = self._living(index)
        if relay is not None:
            self._take_back(relay)

    @rule(index=INDEX, count=st.integers(1, 5), waits=st.booleans(), newest_first=st.booleans())
    def settle(self, index: int, count: int, waits: bool, newest_first: bool) -> None:
        """A relay, or its zombie, settles some of what it has in hand, in any order."""
        if self.relays:
            relay = self.relays[index % len(self.relays)]
            self._settle(relay, sorted(relay.in_hand, reverse=newest_first)[:count], waits=waits)

    @rule(index=INDEX)
    def settle_due(self, index: int) -> None:
        """A relay ends what waited in its lanes and is due."""
        relay = self._living(index)
        if relay is not None:
            self._settle_due(relay)

    @rule(index=INDEX)
    def save(self, index: int) -> None:
        """A relay, or its zombie, saves its low-water marks."""
        if not self.relays:
            return
        relay = self.relays[index % len(self.relays)]
        for lanes, low_water in [water for reader in relay.readers for water in reader.hand.low_waters()]:
            save = partial(save_cursor, self.store, relay.id, lanes, low_water)
            if relay.is_retired:
                with pytest.raises(LeaseLost):
                    self._await(save)
            else:
                self._await(save)

    @rule(index=INDEX)
    def die(self, index: int) -> None:
        """A relay's lease runs out; what it has in memory stays with its zombie."""
        relay = self._living(index)
        if relay is not None:
            self.observer.execute(RUN_OUT, [relay.id])
            relay.is_dead = True

    def teardown(self) -> None:
        """The last relay reads what is left of the log, and everything ends exactly once."""
        try:
            self._end()
        finally:
            self._close()

    # The model's rules, which hold at every step

    @invariant()
    def nothing_unsettled_is_before_a_low_water(self) -> None:
        """Where a living relay would let its successors begin, they find all that has not ended."""
        unsettled = self.committed_at.keys() - self.receipts - self.waiting
        for relay in self.relays:
            waters = [water for reader in relay.readers for water in reader.hand.low_waters()]
            for lanes, low_water in waters if not relay.is_dead else []:
                ahead = [event_id for event_id in unsettled if self.lanes[event_id] in lanes]
                given = (ahead, low_water.seen, low_water.window, low_water.position)
                lost = self.observer.execute(BEFORE, given).fetchall()
                assert not lost, "an event that has not ended is before the cursor that may be saved"

    def _end(self) -> None:
        for writer in self.writers:
            if writer.emitted is not None:
                self.end(self.writers.index(writer), aborts=False)
        for relay in self.relays:
            self.observer.execute(RUN_OUT, [relay.id])
            relay.is_dead = True
        last = self._await(self._join)
        self.relays.append(last)
        self._take(last)
        assert len(last.lanes) == LANE_COUNT
        while self._read(last):
            self._settle(last, list(last.in_hand), waits=False)
        self.observer.execute(ALL_DUE)
        self._settle_due(last)
        found = {row[0] for row in self.observer.execute("select event_id from outbox.receipts")}
        assert found == set(self.committed_at)
        assert self.observer.execute("select count(*) from outbox.waiting").fetchone() == (0,)

    def _read(self, relay: Relay) -> int:
        found = [(reader, self._await(reader.read)) for reader in relay.readers]
        for reader, events in found:
            self._note(relay, reader, events)
        return sum(len(events) for _, events in found)

    def _note(self, relay: Relay, reader: LogReader, events: list[Event]) -> None:
        for event in events:
            assert event.id in self.committed_at, "an event of a transaction that has not committed"
            assert event.lane in reader.lanes, "an event of a lane that is not read"
            assert event.id not in relay.read, "an event was read twice"
            assert event.id not in self.receipts | self.waiting, "an event that had ended, or waits, was read again"
            self._assert_nothing_earlier_is_missing(relay, reader, event)
            relay.read.add(event.id)
            relay.in_hand[event.id] = event

    def _assert_nothing_earlier_is_missing(self, relay: Relay, reader: LogReader, event: Event) -> None:
        """What had committed before this one was emitted was read before it, unless it needs no reading."""
        for earlier, at in self.committed_at.items():
            if at < self.emitted_at[event.id] and self.lanes[earlier] in reader.lanes:
                assert earlier in relay.read | self.receipts | self.waiting, "an earlier event was passed over"

    def _settle(self, relay: Relay, event_ids: list[EventId], *, waits: bool) -> None:
        batch = Batch()
        for event_id in event_ids:
            if waits:
                batch.waits.append(wait(relay.in_hand[event_id], delay_seconds=0))
            else:
                batch.receipts.append(receipt(relay.in_hand[event_id]))
        if not event_ids:
            return
        if relay.is_retired:
            with pytest.raises(LeaseLost):
                self._await(lambda: settle(self.store, relay.id, batch))
            return
        self._await(lambda: settle(self.store, relay.id, batch))
        (self.waiting if waits else self.receipts).update(event_ids)
        for event_id in event_ids:
            del relay.in_hand[event_id]
        for reader in relay.readers:
            reader.hand.settled(event_ids)

    def _meet(self, relay: Relay, some: list[LogReader]) -> None:
        target = self._await(lambda: take_snapshot(self.reading))
        for reader in some:
            while not reader.stands_at(target):
                self._note(relay, reader, self._await(partial(reader.read, target)))
        for other in some[1:]:
            some[0].join(other)
            relay.readers.remove(other)

    def _give_up(self, relay: Relay, lanes: list[Lane]) -> None:
        departures: dict[Lane, Departure] = {}
        for reader in relay.readers:
            departures |= reader.detach(lanes)
        relay.readers = [reader for reader in relay.readers if reader.lanes]
        relay.spilled = [each for each in relay.spilled if each.lane not in lanes]
        relay.in_hand = {event.id: event for event in relay.in_hand.values() if event.lane not in lanes}
        relay.read = {event_id for event_id in relay.read if self.lanes[event_id] not in lanes}
        low_waters = {lane: departure.low_water() for lane, departure in departures.items()}
        self._await(lambda: release(self.store, relay.id, low_waters))
        for lane in lanes:
            del self.owner[lane]

    def _spill(self, relay: Relay, event: Event) -> None:
        [reader] = [reader for reader in relay.readers if not reader.hand.missing([event.id])]
        behind = next((each for each in reversed(relay.spilled) if each.lane == event.lane), None)
        spilled = reader.hand.spill(event, behind)
        assert spilled is not None
        if spilled is not behind:
            relay.spilled.append(spilled)
        del relay.in_hand[event.id]

    def _take_back(self, relay: Relay) -> None:
        for spilled in relay.spilled:
            event_ids = spilled.head(len(spilled))
            back = self._await(partial(fetch, self.reading, event_ids))
            assert [event.id for event in back] == event_ids
            spilled.take_back(len(event_ids), back)
            relay.in_hand.update((event.id, event) for event in back)
        relay.spilled = []

    def _settle_due(self, relay: Relay) -> None:
        due = self._await(lambda: load_due(self.store, relay.lanes, in_hand=(), limit=1000))
        assert {each.event.id for each in due} == {each for each in self.waiting if self.lanes[each] in relay.lanes}
        batch = Batch(receipts=[receipt(each.event, was_waiting=True) for each in due])
        if batch:
            self._await(lambda: settle(self.store, relay.id, batch))
        self.waiting -= {each.event.id for each in due}
        self.receipts |= {each.event.id for each in due}

    def _take(self, relay: Relay) -> None:
        self._await(lambda: lease.retire_dead(self.store))
        for other in self.relays:
            other.is_retired = other.is_retired or other.is_dead
        taken = self._await(lambda: lease.take_lanes(self.store, relay.id))
        assert all(self.owner[lane].is_retired for lane in taken if lane in self.owner), "a living relay lost a lane"
        self.owner.update((lane, relay) for lane in taken)
        cursors = self._await(lambda: load_cursors(self.reading, taken)) if taken else []
        relay.readers += [
            LogReader(self.reading, lanes, cursor, slice_count=3, piece_count=4) for cursor, lanes in cursors
        ]

    def _living(self, index: int) -> Relay | None:
        living = [relay for relay in self.relays if not relay.is_dead]
        return living[index % len(living)] if living else None

    def _emit(self, writer: Writer, key: str | None) -> EventId:
        event_id = emit(writer.connection, "t", {}, key=key)
        self.emitted_at[event_id] = next(self.clock)
        [(self.lanes[event_id],)] = writer.connection.execute(
            "select lane from outbox.events where id = %s", [event_id]
        ).fetchall()
        return event_id

    async def _join(self) -> Relay:
        return Relay(await lease.join(self.store, name="test", version="0", lease_seconds=600))

    def _close(self) -> None:
        self._await(self.store.close)
        self._await(self.reading.close)
        for connection in (self.observer, *(writer.connection for writer in self.writers)):
            connection.close()

    def _await(self, call: Callable[[], Any]) -> Any:
        return self.portal.call(call)


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    """An event loop in a thread of its own: the machine's rules are plain functions."""
    with start_blocking_portal() as portal:
        yield portal


def test_every_committed_event_ends_exactly_once(database: str, portal: BlockingPortal) -> None:
    """Whatever writers, relays, deaths and zombies do, in whatever order."""
    run_state_machine_as_test(
        partial(LogMachine, database, portal),  # type: ignore[arg-type]  # whatever makes a machine will do
        settings=settings(
            max_examples=40, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
