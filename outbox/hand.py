"""What a log reader has in hand, and the low water of each of its lanes. No I/O.

Lanes that came from another reader have a low water of their own until all that came in hand with them is settled, and
lanes that go take theirs along:

    lanes 0 .. 63                            own
    take lane 7 away      0 .. 6, 8 .. 63    own          7   its share, with another reader
    let it come back      0 .. 6, 8 .. 63    earlier      7   earlier
                          0 .. 63            own
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from outbox.event import Event, EventId, Lane
from outbox.low_water import Cursor, Departure, LowWater, Spilled


class Hand:
    """What was read of some lanes and is not settled.

    Attributes:
        lanes: The lanes.
    """

    __slots__ = ("_earlier", "_own", "lanes")

    def __init__(self, lanes: Sequence[Lane], cursor: Cursor) -> None:
        self.lanes = lanes
        self._own = LowWater(cursor)
        self._earlier: list[tuple[Sequence[Lane], LowWater]] = []

    def missing(self, event_ids: Iterable[EventId]) -> set[EventId]:
        """Return those of these events that it does not have."""
        missing = set(event_ids)
        for water in self._waters():
            missing = water.missing(missing)
        return missing

    def __len__(self) -> int:
        """How many events there are; without those that were spilled."""
        return self._own.in_hand_count + sum(water.in_hand_count for _, water in self._earlier)

    def events(self) -> list[Event]:
        """Return them, in the order of reading within each lane."""
        return [event for water in self._waters() for event in water.in_hand()]

    def get(self, event_id: EventId) -> Event | None:
        """Return one of them."""
        return next((found for water in self._waters() if (found := water.event_in_hand(event_id)) is not None), None)

    def oldest_at(self) -> datetime | None:
        """Return when the oldest of them was emitted; of the first window that has one."""
        return min((at for water in self._waters() if (at := water.oldest_at()) is not None), default=None)

    def begin(self, seen: str, window: str) -> None:
        """Begin the window after the current one, which has been read out."""
        self._own.begin(seen, window)

    def read(self, events: Sequence[Event], position: int) -> None:
        """Take events of the current window, in the order of their ids; it is read up to a position."""
        self._own.read(events, position)

    def settled(self, event_ids: Iterable[EventId]) -> None:
        """Take note that these events have a receipt or a waiting row, durably. Others' ids are passed over."""
        self._own.settled(event_ids)
        if self._earlier:
            for _, water in self._earlier:
                water.settled(event_ids)
            self._forget_settled()

    def spill(self, event: Event, behind: Spilled | None) -> Spilled | None:
        """Keep the id alone of an event, behind others of its key; None where it is not in hand.

        It is not settled: `low_waters` and `leave` know of it as of the others, and `take_back` is for its turn.
        """
        return next((water.spill(event, behind) for water in self._waters() if event.id in water), None)

    def spill_unread(self, event: Event, event_ids: Sequence[int], behind: Spilled | None) -> Spilled | None:
        """Keep ids of the current window that are not read, of an event's key; None where its lane was given up."""
        return self._own.spill_unread(event, event_ids, behind) if event.lane in self.lanes else None

    def low_waters(self) -> list[tuple[Sequence[Lane], Cursor]]:
        """Return the cursors that may be saved, with their lanes: everything before them is settled.

        Of the low waters of a lane the first one that holds it back counts.
        """
        left = set(self.lanes)
        cursors = []
        for lanes, water in self._earlier:
            if held_back := left.intersection(lanes):
                cursors.append((sorted(held_back), water.cursor()))
                left -= held_back
        return [*cursors, (sorted(left), self._own.cursor())] if left else list(cursors)

    def join(self, other: Hand, boundary: Cursor) -> None:
        """Have the lanes of another one too, which was read to the same boundary, and is of no use afterwards."""
        # The oldest first, of each lane: it holds back all that came later.
        self._earlier += other._earlier
        for each in (self, other):
            self._earlier += [] if each._own.is_settled else [(each.lanes, each._own)]  # noqa: SLF001 (our own)
        self.lanes = sorted((*self.lanes, *other.lanes))
        self._own = LowWater(boundary)

    def part(self, lanes: Collection[Lane]) -> Hand:
        """Let some lanes go, with what is in hand of them, and return that."""
        parted = Hand(sorted(lanes), Cursor())
        parted._own = self._own.part(lanes)
        parted._earlier = [
            (both, water.part(lanes)) for theirs, water in self._earlier if (both := sorted({*lanes} & {*theirs}))
        ]
        parted._forget_settled()
        self._let_go(lanes)
        return parted

    def leave(self, lanes: Collection[Lane], read_to: Cursor) -> dict[Lane, Departure]:
        """Let some lanes go, which were read up to a cursor, and return where each of them stands."""
        departures = {lane: Departure(read_to) for lane in lanes}
        for water in self._waters():
            for lane, event_id, cursor in water.take_out(lanes):
                departures[lane].in_hand[event_id] = cursor
        self._let_go(lanes)
        return departures

    def _waters(self) -> list[LowWater]:
        """All low waters, the earlier ones first."""
        return [*(water for _, water in self._earlier), self._own]

    def _let_go(self, leaving: Collection[Lane]) -> None:
        """Forget these lanes. One that comes back has a low water of its own: that of its time before may be ahead."""
        self.lanes = [lane for lane in self.lanes if lane not in leaving]
        self._earlier = [([lane for lane in lanes if lane not in leaving], water) for lanes, water in self._earlier]
        self._forget_settled()

    def _forget_settled(self) -> None:
        self._earlier = [(lanes, water) for lanes, water in self._earlier if not water.is_settled]
