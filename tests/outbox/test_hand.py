"""Lanes that go from reader to reader, in whatever order: nothing that has not ended lies before a low water."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from outbox.event import Event, EventId, Lane
from outbox.hand import Hand
from outbox.low_water import Cursor, Spilled

LANES = [Lane(lane) for lane in range(4)]
AT = datetime(2026, 1, 1, tzinfo=UTC)

INDEX = st.integers(0, 1000)


@dataclass(eq=False)
class Reader:
    """What reads some lanes: it stands at an instant, and has yet to read some of the window that ended there."""

    hand: Hand
    stands_at: int
    unread: list[Event] = field(default_factory=list)


class HandMachine(RuleBasedStateMachine):
    """A log in plain Python, where a snapshot is an instant: what was emitted until then is visible in it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1
        self.emitted: list[tuple[Event, int]] = []
        self.ended: set[EventId] = set()
        self.readers = [Reader(Hand(LANES, Cursor("1", "1")), 1)]
        self.spilled: dict[Spilled, list[Event]] = {}

    @rule(lanes=st.lists(st.sampled_from(LANES), min_size=2, max_size=8), comes_late=st.booleans())
    def emit(self, lanes: list[Lane], comes_late: bool) -> None:
        """Events become visible together; the ids of some may be below those of others that were visible before."""
        self.now += 1
        for number, lane in enumerate(lanes):
            event_id = len(self.emitted) + (0 if comes_late and number % 2 else 1000)
            event = Event(EventId(event_id), lane, str(lane), None, "t", {}, {}, None, None, None, AT)
            self.emitted.append((event, self.now))

    @rule(index=INDEX, count=st.sampled_from([2, 100]))
    def read(self, index: int, count: int) -> None:
        """A reader reads a slice."""
        self._read(self.readers[index % len(self.readers)], count)

    @rule(index=INDEX, count=st.integers(1, 6))
    def settle(self, index: int, count: int) -> None:
        """Some of what is in hand ends, wherever it is."""
        in_hand = sorted(event for reader in self.readers for event in reader.hand.events())
        self._end([in_hand[(index + number) % len(in_hand)] for number in range(count)] if in_hand else [])

    @rule(lane=st.sampled_from(LANES))
    def spill(self, lane: Lane) -> None:
        """Of a lane all that is in hand but the first is kept as ids."""
        if any(each.lane == lane for each in self.spilled):
            return
        for reader in self.readers:
            for event in [event for event in reader.hand.events() if event.lane == lane][1:]:
                self._spill(reader, event)

    @precondition(lambda self: bool(self.spilled))
    @rule(count=st.integers(1, 3))
    def take_back(self, count: int) -> None:
        """The first few of what was spilled come back."""
        spilled, events = next(iter(self.spilled.items()))
        back, self.spilled[spilled] = events[:count], events[count:]
        assert spilled.head(count) == [event.id for event in back]
        spilled.take_back(len(back), back)
        if not self.spilled[spilled]:
            del self.spilled[spilled]

    @rule(index=INDEX, lanes=st.sets(st.sampled_from(LANES), min_size=1, max_size=2))
    def part(self, index: int, lanes: set[Lane]) -> None:
        """A reader has some of its lanes read by another one."""
        reader = self.readers[index % len(self.readers)]
        if not reader.unread and (leaving := lanes.intersection(reader.hand.lanes)):
            self.readers.append(Reader(reader.hand.part(leaving), reader.stands_at))

    @rule(index=INDEX, other=INDEX)
    def join(self, index: int, other: int) -> None:
        """Two readers read to one instant, and go on as one."""
        first, second = self.readers[index % len(self.readers)], self.readers[other % len(self.readers)]
        if first is second:
            return
        for reader in (first, second):
            while reader.unread or reader.stands_at < self.now:
                self._read(reader, 100)
        first.hand.join(second.hand, Cursor(str(self.now), str(self.now)))
        self.readers.remove(second)

    @rule(index=INDEX, lane=st.sampled_from(LANES))
    def leave_and_come_back(self, index: int, lane: Lane) -> None:
        """A lane is given up, and taken again from where it was left: what was in hand of it is read once more."""
        [reader] = [reader for reader in self.readers if lane in reader.hand.lanes]
        if reader.unread:
            return
        read_to = Cursor(str(reader.stands_at), str(reader.stands_at))
        left_at = reader.hand.leave([lane], read_to)[lane].low_water()
        self.spilled = {each: events for each, events in self.spilled.items() if each.lane != lane}
        again = Reader(Hand([lane], left_at), int(left_at.window))
        again.unread = self._between(left_at, lane)
        self.readers.append(again)

    @invariant()
    def nothing_is_before_a_low_water_that_has_not_ended(self) -> None:
        """Each lane has one, and is read by one reader; whoever begins there finds all that has not ended."""
        assert sorted(lane for reader in self.readers for lane in reader.hand.lanes) == LANES
        for reader in self.readers:
            waters = reader.hand.low_waters()
            assert sorted(lane for lanes, _ in waters for lane in lanes) == sorted(reader.hand.lanes)
            for lanes, low_water in waters:
                found = {event.id for lane in lanes for event in self._after(low_water, lane)}
                left = {event.id for event, _ in self.emitted if event.lane in lanes}
                assert left - self.ended <= found

    def _read(self, reader: Reader, count: int) -> None:
        if not reader.unread:
            ahead = Cursor(str(reader.stands_at), str(self.now))
            reader.unread = [event for lane in reader.hand.lanes for event in self._between(ahead, lane)]
            reader.unread.sort()
            reader.hand.begin(ahead.seen, ahead.window)
            reader.stands_at = self.now
        some, reader.unread = reader.unread[:count], reader.unread[count:]
        if some:
            reader.hand.read(some, some[-1].id)
            hot = {each.lane for each in self.spilled}
            for event in some:
                if event.lane in hot:  # it comes behind those that are spilled
                    self._spill(reader, event)

    def _spill(self, reader: Reader, event: Event) -> None:
        behind = next((each for each in reversed(self.spilled) if each.lane == event.lane), None)
        kept = reader.hand.spill(event, behind)
        assert kept is not None
        self.spilled.setdefault(kept, []).append(event)

    def _between(self, cursor: Cursor, lane: Lane) -> list[Event]:
        """What a window holds behind the cursor's position, and has not ended."""
        return self._after(cursor, lane, until=int(cursor.window))

    def _after(self, cursor: Cursor, lane: Lane, until: float = math.inf) -> list[Event]:
        seen, window = int(cursor.seen), int(cursor.window)
        return sorted(
            event
            for event, at in self.emitted
            if event.lane == lane
            and event.id not in self.ended
            and (window < at <= until or (seen < at <= window and event.id > cursor.position))
        )

    def _end(self, events: list[Event]) -> None:
        self.ended.update(event.id for event in events)
        for reader in self.readers:
            reader.hand.settled([event.id for event in events])


def test_nothing_that_has_not_ended_is_before_a_low_water() -> None:
    """Whatever is read, settled, spilled, parted, joined, given up and taken again."""
    run_state_machine_as_test(HandMachine, settings=settings(max_examples=300, stateful_step_count=40, deadline=None))
