"""Keeps hot keys from filling the relay: of what is read for them and can't run soon, it keeps only the ids.

    room full, and it stays full    -> the keys of which most is in hand are hot
    one key has much of what is listed, by a sample -> it is hot: it is listed apart, and none of it is read first
    more is listed than there is room, and much of what is read is one key's and queues up -> it is hot
    hot key: the first few of it stay in hand; the others spill, 8 bytes each; behind them what is listed of it, without
             being read, and what is read of it later
    few of it are left in hand      -> the next ones are fetched by primary key, and go on as if they had just been read

Nothing is written for it: what is spilled is not settled, so that a successor finds it in the log.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskStatus
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.event import Event, EventId, Lane
from outbox.ledger import load_steps
from outbox.log import LogReader, fetch
from outbox.low_water import Spilled
from outbox.suspects import load_suspicion
from relay.delivery import Delivery, from_log
from relay.metrics import RelayMetrics
from relay.scheduler import Scheduler

_KEPT_MAX = 1000
"""Events of a hot key in hand: one of them runs at a time, but with less at once more is fetched for each."""

_KEYS_PASSED_OVER_MAX = 16
"""Keys that one slice may show to be hot: each has as large a part of it at least."""

SPILLED_MAX = 4_000_000
"""Ids that are kept at once, of all keys: reading pauses at it. With what was listed before, 36 MB at most."""


@dataclass(slots=True)
class _HotKey:
    """A key of which events are spilled: those in hand are before them."""

    lane: Lane
    in_hand_count: int
    spilled: deque[Spilled] = field(default_factory=deque)


@dataclass(slots=True)
class Spill:
    """Holds the ids of what is read of hot keys, and brings back the events in their order.

    Attributes:
        connection: Shared with lanes that are read aside: nobody but hot keys waits for what takes long there.
        scheduler: Gives back what is queued.
        offer: Takes deliveries, in the order in which they may run.
        in_hand_max: The room that hot keys may not fill.
        on_room: Called when ids are fewer.
        metrics: Events emitted.
        count: How many ids are kept.
    """

    connection: AsyncConnection[TupleRow]
    scheduler: Scheduler
    offer: Callable[[Sequence[Delivery]], None]
    in_hand_max: int
    on_room: Callable[[], None]
    metrics: RelayMetrics
    count: int = 0
    _hot: dict[str, _HotKey] = field(default_factory=dict)
    _wanted: anyio.Event = field(default_factory=anyio.Event)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Bring back what may run soon, until cancelled. Raises psycopg.Error."""
        task_status.started()
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            await self._bring_back()
            self.on_room()

    def passing(self, log: LogReader, events: Sequence[Event]) -> Sequence[Event]:
        """Return what may be offered of events that were just read; those of a hot key are spilled instead."""
        return [event for event in events if self._passes(log, event)] if self._hot else events

    def _passes(self, log: LogReader, event: Event) -> bool:
        hot = self._hot.get(event.key) if event.key is not None else None
        if hot is None:
            return True
        self._spill(log, event, hot)
        return False

    def make_room(self, logs: Sequence[LogReader]) -> bool:
        """Find out which keys are hot, and spill most of what is in hand of them. False: there is none."""
        in_hand = [(log, event) for log in logs for event in log.hand.events()]
        counts = self._count(in_hand)
        kept = self._kept_count(len(self._hot) + len(counts))
        found = {key: count for key, count in counts.items() if count > 2 * kept}
        self._heat(found, in_hand)
        return bool(found)

    async def pass_over(self, log: LogReader, events: Sequence[Event]) -> None:
        """Have no more of a hot key be read from what is listed, of which some events were just read.

        A key that takes much of them is hot where handlers don't keep up with it. Raises psycopg.Error.
        """
        for key, count in Tally([event.key for event in events]).most_common(_KEYS_PASSED_OVER_MAX):
            if key is None or count * _KEYS_PASSED_OVER_MAX < len(events):
                continue
            if key not in self._hot:
                in_hand = [(log, event) for event in log.hand.events()]
                queued_count = self._count(in_hand)[key]
                if queued_count < self.in_hand_max // 4:
                    continue
                self._heat({key: queued_count}, in_hand)
            event_ids = await log.unlist(key)
            if event_ids:
                self._spill_unread(log, next(event for event in events if event.key == key), event_ids)

    async def keep_apart(self, log: LogReader, crowd: Event) -> int:
        """Spill, without reading them, all that is listed of the key that has much of a window, and return how many.

        Where they are few after all, they are fetched at once. Raises psycopg.Error.
        """
        assert crowd.key is not None
        event_ids = await log.unlist(crowd.key)
        self._spill_unread(log, crowd, event_ids)
        return len(event_ids)

    def _count(self, in_hand: Sequence[tuple[LogReader, Event]]) -> Tally[str]:
        """Return how many events are in hand of each key that is not hot."""
        return Tally(event.key for _, event in in_hand if event.key is not None and event.key not in self._hot)

    def _heat(self, found: Mapping[str, int], in_hand: Sequence[tuple[LogReader, Event]]) -> None:
        """Spill most of what is in hand of keys, of which so many events each are in hand."""
        kept = self._kept_count(len(self._hot) + len(found))
        evicted = {delivery.event.id for delivery in self.scheduler.evict(found, kept)}
        lanes = {event.key: event.lane for _, event in in_hand}
        self._hot |= {key: _HotKey(lanes[key], count) for key, count in found.items()}
        for log, event in in_hand:
            if event.id in evicted and event.key is not None:
                hot = self._hot[event.key]
                hot.in_hand_count -= 1
                self._spill(log, event, hot)

    def settled(self, logs: Sequence[LogReader], event_ids: Sequence[EventId]) -> None:
        """Events are about to be let go that are settled durably: where few of a hot key are left, fetch more."""
        if not self._hot:
            return
        for event_id in event_ids:
            event = next((found for log in logs if (found := log.hand.get(event_id)) is not None), None)
            hot = self._hot.get(event.key) if event is not None and event.key is not None else None
            if event is None or event.key is None or hot is None:
                continue
            hot.in_hand_count -= 1
            if self._has_room(hot):
                if hot.spilled:
                    self._wanted.set()
                else:
                    del self._hot[event.key]

    def give_up(self, lanes: Collection[Lane]) -> None:
        """Forget what is of these lanes: their log readers say where it is."""
        for key, hot in list(self._hot.items()):
            if hot.lane in lanes:
                self.count -= sum(map(len, hot.spilled))
                del self._hot[key]

    @property
    def in_hand_count(self) -> int:
        """How many events of hot keys are in hand."""
        return sum(hot.in_hand_count for hot in self._hot.values())

    def _kept_count(self, key_count: int) -> int:
        """How many events of each hot key stay in hand: a quarter of the room is theirs, however many there are."""
        return max(2, min(_KEPT_MAX, self.in_hand_max // (4 * max(1, key_count))))

    def _has_room(self, hot: _HotKey) -> bool:
        return hot.in_hand_count <= self._kept_count(len(self._hot)) // 2

    def _spill(self, log: LogReader, event: Event, hot: _HotKey) -> None:
        spilled = log.hand.spill(event, hot.spilled[-1] if hot.spilled else None)
        if spilled is None:
            return  # its lane was given up
        if not hot.spilled or hot.spilled[-1] is not spilled:
            hot.spilled.append(spilled)
        self.count += 1
        if self._has_room(hot):
            self._wanted.set()

    def _spill_unread(self, log: LogReader, event: Event, event_ids: Sequence[int]) -> None:
        """Keep the ids of what was listed of an event's key."""
        assert event.key is not None
        hot = self._hot.get(event.key)
        if hot is None:  # what was in hand of it has ended meanwhile, or most of it
            hot = _HotKey(event.lane, sum(other.key == event.key for other in log.hand.events()))
        spilled = log.hand.spill_unread(event, event_ids, hot.spilled[-1] if hot.spilled else None)
        if spilled is None:
            return  # its lane was given up
        self._hot[event.key] = hot
        self.metrics.read({event.type: len(event_ids)})  # of a key's events most are of one type
        if not hot.spilled or hot.spilled[-1] is not spilled:
            hot.spilled.append(spilled)
        self.count += len(event_ids)
        if self._has_room(hot):
            self._wanted.set()

    async def _bring_back(self) -> None:
        kept = self._kept_count(len(self._hot))
        wanted = [
            (key, hot.spilled[0], hot.spilled[0].head(kept - hot.in_hand_count))
            for key, hot in self._hot.items()
            if hot.spilled and self._has_room(hot)
        ]
        event_ids = [event_id for _, _, ids in wanted for event_id in ids]
        if not event_ids:
            return
        events = {event.id: event for event in await fetch(self.connection, event_ids)}
        steps = await load_steps(self.connection, event_ids)
        known = await load_suspicion(self.connection, event_ids)
        for key, spilled, ids in wanted:
            hot = self._hot.get(key)
            if hot is None or not hot.spilled or hot.spilled[0] is not spilled:
                continue  # its lane was given up meanwhile
            back = [events[event_id] for event_id in ids if event_id in events]
            spilled.take_back(len(ids), back)
            self.count -= len(ids)
            hot.in_hand_count += len(back)
            if not spilled:
                hot.spilled.popleft()
                if hot.spilled and self._has_room(hot):
                    self._wanted.set()
            self.offer([from_log(event, steps, known) for event in back])
            if not hot.spilled and self._has_room(hot):
                del self._hot[key]
