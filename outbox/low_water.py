"""Where a log has been read to, what of it is in hand, and the cursor that may be saved. No I/O.

    windows, oldest first      [ ended ] [ x . x ] [ . . . ] [ x x x | not read yet ]
    x in hand, . settled                   ^
                                           the low water: a successor that begins here meets all that is in hand

Windows are read out one after another, but events settle in any order: the first window with an event in hand is where
the water stands, and its first event in hand is how high.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from outbox.event import Event, EventId, Lane

NOTHING = "1:1:"
"""The snapshot in which nothing is visible: where a new cursor begins."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a log has been read: two snapshots as PostgreSQL prints them, and the last id inside the window."""

    seen: str = NOTHING
    window: str = NOTHING
    position: int = 0


@dataclass(slots=True)
class Departure:
    """Where one lane stands that is read no more.

    Attributes:
        read_to: How far it has been read.
        in_hand: The cursor before each event that was read and is not settled, in the order of reading.
    """

    read_to: Cursor
    in_hand: dict[EventId, Cursor] = field(default_factory=dict)

    def settled(self, event_ids: Iterable[EventId]) -> None:
        """Let events go; others' ids are passed over."""
        for event_id in event_ids:
            self.in_hand.pop(event_id, None)

    def low_water(self) -> Cursor:
        """Return the cursor for the next owner: it finds what is in hand, and all that was not read."""
        return next(iter(self.in_hand.values()), self.read_to)


_WINDOWS_MAX = 1000
"""Windows that are remembered before those of which all is settled are looked for."""


@dataclass(slots=True)
class _Window:
    """A window that has been begun: `in_hand` in the order of reading; `position` the last id read."""

    seen: str
    window: str
    position: int
    in_hand: dict[EventId, Event] = field(default_factory=dict)
    spilled: list[Spilled] = field(default_factory=list)

    def oldest(self) -> EventId | None:
        """Return the least id that is in hand or spilled."""
        return min([*self.in_hand, *(spilled.first for spilled in self.spilled)], default=None)

    def cursor_before(self, event_id: EventId | None) -> Cursor:
        """Return the cursor before an event, or where reading is: one that is spilled may be ahead of that."""
        return Cursor(self.seen, self.window, self.position if event_id is None else min(self.position, event_id - 1))


@dataclass(slots=True, eq=False)
class Spilled:
    """Events of one key and window that were read or listed, of which only the ids are kept, 8 bytes each, in order.

    Attributes:
        lane: Theirs.
        oldest_at: When the first of them was emitted; of one before it, once some were taken back.
    """

    lane: Lane
    oldest_at: datetime
    _window: _Window
    _water: LowWater
    _ids: array[int] = field(default_factory=lambda: array("q"))
    _position: int = 0

    def __len__(self) -> int:
        """How many there are."""
        return len(self._ids) - self._position

    @property
    def first(self) -> EventId:
        """The first one."""
        return EventId(self._ids[self._position])

    def head(self, count: int) -> list[EventId]:
        """Return the first so many ids."""
        return [EventId(event_id) for event_id in self._ids[self._position : self._position + count]]

    def take_back(self, count: int, events: Iterable[Event]) -> None:
        """Take the first so many in hand again, which have been fetched."""
        self._position += count
        self._water.take_back(self._window, events)
        if not self:
            self._window.spilled.remove(self)

    def move(self, window: _Window, water: LowWater) -> None:
        """Be of another low water from now on."""
        self._window, self._water = window, water

    def is_of(self, window: _Window) -> bool:
        """Tell whether they were read in a window."""
        return self._window is window

    def extend(self, event_ids: Iterable[int]) -> None:
        """Keep other ids, which are above these."""
        self._ids.extend(event_ids)


class LowWater:
    """What has been read and not yet settled, over as many windows as are still in hand."""

    __slots__ = ("_by_event", "_compact_at", "_windows")

    def __init__(self, cursor: Cursor) -> None:
        self._windows: deque[_Window] = deque([_Window(cursor.seen, cursor.window, cursor.position)])
        self._by_event: dict[EventId, _Window] = {}
        self._compact_at = _WINDOWS_MAX

    def __contains__(self, event_id: EventId) -> bool:
        """Tell whether an event is in hand."""
        return event_id in self._by_event

    def missing(self, event_ids: set[EventId]) -> set[EventId]:
        """Return those of these events that are not in hand."""
        return event_ids.difference(self._by_event)

    @property
    def in_hand_count(self) -> int:
        """How many events are in hand."""
        return len(self._by_event)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is in hand, and nothing spilled."""
        return not self._by_event and not any(window.spilled for window in self._windows)

    def in_hand(self) -> list[Event]:
        """Return the events in hand, in the order of reading."""
        return [event for window in self._windows for event in window.in_hand.values()]

    def event_in_hand(self, event_id: EventId) -> Event | None:
        """Return an event that is in hand."""
        window = self._by_event.get(event_id)
        return None if window is None else window.in_hand[event_id]

    def spill(self, event: Event, behind: Spilled | None) -> Spilled:
        """Keep the id alone of an event in hand, behind others of its key."""
        window = self._by_event.pop(event.id)
        del window.in_hand[event.id]
        return self._spill_of(window, event, [event.id], behind)

    def spill_unread(self, event: Event, event_ids: Iterable[int], behind: Spilled | None) -> Spilled:
        """Keep ids of the current window that are not read, of the key of an event that is, behind others of it."""
        return self._spill_of(self._windows[-1], event, event_ids, behind)

    def _spill_of(self, window: _Window, event: Event, event_ids: Iterable[int], behind: Spilled | None) -> Spilled:
        spilled = behind
        if spilled is None or not spilled.is_of(window):
            spilled = Spilled(event.lane, event.created_at, window, self)
            window.spilled.append(spilled)
        spilled.extend(event_ids)
        return spilled

    def take_back(self, window: _Window, events: Iterable[Event]) -> None:
        """Take events in hand that were spilled."""
        for event in events:
            window.in_hand[event.id] = event
            self._by_event[event.id] = window

    def oldest_at(self) -> datetime | None:
        """Return when the first event in hand was emitted."""
        self._drop_settled_windows(keep_last=True)
        first = self._windows[0]
        instants = [event.created_at for event in first.in_hand.values()]
        return min([*instants, *(spilled.oldest_at for spilled in first.spilled)], default=None)

    def begin(self, seen: str, window: str) -> None:
        """Begin the window after the current one, which has been read out."""
        self._drop_settled_windows(keep_last=False)
        if len(self._windows) >= self._compact_at:
            # Behind one that is not settled for long, any number of windows may have been.
            self._windows = deque(window for window in self._windows if window.in_hand or window.spilled)
            self._compact_at = 2 * len(self._windows) + _WINDOWS_MAX
        self._windows.append(_Window(seen, window, 0))

    def read(self, events: Sequence[Event], position: int) -> None:
        """Take events of the current window, in the order of their ids, in hand; it is read up to a position."""
        current = self._windows[-1]
        current.position = position
        event_ids = [event.id for event in events]
        current.in_hand.update(zip(event_ids, events, strict=True))
        self._by_event.update(dict.fromkeys(event_ids, current))

    def settled(self, event_ids: Iterable[EventId]) -> None:
        """Let events go; ids that are not in hand came from elsewhere."""
        for event_id in event_ids:
            window = self._by_event.pop(event_id, None)
            if window is not None:
                del window.in_hand[event_id]

    def take_out(self, lanes: Collection[Lane]) -> list[tuple[Lane, EventId, Cursor]]:
        """Let the events of some lanes go, unsettled, and return them as read, with the cursor before each.

        Of those that were spilled the first of each key stands for all: none of them is settled before it departs.
        """
        taken: list[tuple[Lane, EventId, Cursor]] = []
        for window in self._windows:
            leaving = [(event.id, event.lane) for event in window.in_hand.values() if event.lane in lanes]
            leaving += [(spilled.first, spilled.lane) for spilled in window.spilled if spilled.lane in lanes]
            window.spilled = [spilled for spilled in window.spilled if spilled.lane not in lanes]
            taken += [(lane, event_id, window.cursor_before(event_id)) for event_id, lane in sorted(leaving)]
        self.settled([event_id for _, event_id, _ in taken])
        return taken

    def part(self, lanes: Collection[Lane]) -> LowWater:
        """Take the events of some lanes out, in hand and spilled, and return the low water of these lanes."""
        parted = LowWater(Cursor())
        parted._windows.clear()
        for window in self._windows:
            in_hand = {event_id: event for event_id, event in window.in_hand.items() if event.lane in lanes}
            spilled = [each for each in window.spilled if each.lane in lanes]
            theirs = _Window(window.seen, window.window, window.position, in_hand, spilled)
            for each in spilled:
                each.move(theirs, parted)
            parted._by_event |= dict.fromkeys(in_hand, theirs)
            parted._windows.append(theirs)
            window.spilled = [each for each in window.spilled if each.lane not in lanes]
        self.settled(parted._by_event)
        return parted

    def cursor(self) -> Cursor:
        """Return the cursor before which everything is settled."""
        self._drop_settled_windows(keep_last=True)
        first = self._windows[0]
        return first.cursor_before(first.oldest())

    def _drop_settled_windows(self, *, keep_last: bool) -> None:
        while len(self._windows) > keep_last and not self._windows[0].in_hand and not self._windows[0].spilled:
            self._windows.popleft()
