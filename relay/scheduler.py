"""Which delivery may run: pure decisions, no I/O, no clock of its own.

    offer -> [ready] -> take -> in flight -> finished -> ended | paused | waits
               ^                                            |       |        |
               |          behind in its key, or             v       v        v
               +-------- behind in its sequence  <--- next one    resume   followers park

- At most one delivery of a key is ready or in flight.
- A sequence moves one delivery at a time, from the first look to its receipt: a paused one holds up those behind it,
  and when one gets a waiting row those behind it park, in `outbox.waiting` too.
- Without a sequence nothing waits for another one's retry.
- What a predecessor left in doubt comes before all else of its key: until it has come, nothing of the key is ready.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from outbox.event import EventId, Lane
from outbox.outcome import Reason
from outbox.take_over import Doubt
from relay.delivery import Delivery, Park
from relay.holds import Holds


@dataclass(slots=True)
class _Awaited:
    """The events in doubt of a key that have not been offered yet."""

    lane: Lane
    event_ids: set[EventId] = field(default_factory=set)


@dataclass(slots=True)
class Scheduler:
    """The deliveries in hand that wait for a worker."""

    _ready: deque[Delivery] = field(default_factory=deque)
    _behind_key: dict[str, deque[Delivery]] = field(default_factory=dict)
    _behind_sequence: dict[tuple[str, str], deque[Delivery]] = field(default_factory=dict)
    _blocked: set[int] = field(default_factory=set)
    _awaited: dict[str, _Awaited] = field(default_factory=dict)

    def await_first(self, doubts: Iterable[Doubt]) -> None:
        """Let nothing of their keys run before these events have been offered; nothing of their lanes has been yet."""
        for doubt in doubts:
            self._behind_key[doubt.key] = deque()
            self._awaited.setdefault(doubt.key, _Awaited(doubt.lane)).event_ids.add(doubt.event_id)

    def offer(self, delivery: Delivery) -> bool:
        """Queue a delivery. False: an earlier one of its sequence waits, so it must be parked instead."""
        if self._awaited and self._is_awaited(delivery):
            if (begun := delivery.sequence) is not None:
                self._behind_sequence.setdefault(begun, deque())
            self._queue(delivery)
            return True
        if delivery.event.sequence is not None and (sequence := delivery.sequence) is not None:
            if not delivery.waiting and hash(sequence) in self._blocked:
                return False
            followers = self._behind_sequence.get(sequence)
            if followers is not None:
                followers.append(delivery)
                return True
            self._behind_sequence[sequence] = deque()
        self._queue(delivery)
        return True

    def take(self) -> Delivery | None:
        """Take the next delivery that may run now."""
        return self._ready.popleft() if self._ready else None

    def finished(self, delivery: Delivery) -> None:
        """The delivery is no longer in flight: the next one of its key may run."""
        key = delivery.event.key
        if key is None:
            return
        queued = self._behind_key[key]
        if queued:
            self._ready.append(queued.popleft())
        else:
            del self._behind_key[key]

    def resume(self, delivery: Delivery) -> None:
        """Queue a paused delivery again; its sequence has waited for it."""
        self._queue(delivery)

    def ended(self, delivery: Delivery) -> None:
        """The delivery has its outcome: the next one of its sequence may run."""
        sequence = delivery.sequence
        if sequence is None:
            return
        followers = self._behind_sequence.get(sequence)
        if followers:
            self._queue(followers.popleft())
        else:
            self._behind_sequence.pop(sequence, None)

    def waits(self, delivery: Delivery) -> list[Delivery]:
        """The delivery gets a waiting row: return those behind it in its sequence, which must be parked too."""
        sequence = delivery.sequence
        if sequence is None:
            return []
        self.block([sequence])
        return list(self._behind_sequence.pop(sequence, ()))

    def block(self, sequences: Iterable[tuple[str, str]]) -> None:
        """Take note that events of these sequences wait: new ones park behind them.

        Kept as hashes, 64 bits each. Where two collide, one is unblocked with the other: of a million sequences that
        wait at once any two do with a chance of one in thirty million.
        """
        self._blocked.update(map(hash, sequences))

    def unblock(self, sequences: Iterable[tuple[str, str]]) -> None:
        """Take note that no event of these sequences waits any more."""
        self._blocked.difference_update(map(hash, sequences))

    def is_blocked(self, sequence: tuple[str, str]) -> bool:
        """Tell whether an event of the sequence waits, as far as we know."""
        return hash(sequence) in self._blocked

    def forget(self, lanes: Collection[Lane]) -> None:
        """Forget what is not in flight of some lanes, for good: another relay goes on with it.

        Which of their sequences are blocked stays known here, as hashes that tell nothing of a lane. Should the lane
        come back, an event that parks for one that is not blocked any more is promoted at once.
        """
        for queued in self._behind_key.values():
            if queued and queued[0].event.lane in lanes:
                self._forget_sequences(queued)
                queued.clear()
        for followers in self._behind_sequence.values():
            if followers and followers[0].event.lane in lanes:
                followers.clear()
        forgotten = [delivery for delivery in self._ready if delivery.event.lane in lanes]
        if forgotten:
            self._forget_sequences(forgotten)
            self._ready = deque(delivery for delivery in self._ready if delivery.event.lane not in lanes)
        for delivery in forgotten:
            if delivery.event.key is not None:
                del self._behind_key[delivery.event.key]
        for key in [key for key, awaited in self._awaited.items() if awaited.lane in lanes]:
            del self._awaited[key], self._behind_key[key]

    def evict(self, keys: Collection[str], kept_count: int) -> list[Delivery]:
        """Give back what is queued of these keys beyond the first few of each, to be offered again later.

        What waits, or was dispatched before, stays. Of each sequence it is the last ones that are given back, so that
        its order is kept when they come again in the order of the log.
        """
        evicted: list[Delivery] = []
        room = dict.fromkeys(keys, kept_count)
        for key in keys:
            queued = self._behind_key.get(key, ())
            kept: deque[Delivery] = deque()
            for delivery in queued:
                followers = () if delivery.sequence is None else self._behind_sequence.get(delivery.sequence, ())
                if len(kept) >= kept_count and all(map(_is_fresh, (delivery, *followers))):
                    evicted += (delivery, *followers)
                    self._forget_sequences([delivery])
                else:
                    kept.append(delivery)
            if queued:
                self._behind_key[key] = kept
        for (key, _), followers in self._behind_sequence.items():
            while key in room and len(followers) > room[key] and _is_fresh(followers[-1]):
                evicted.append(followers.pop())
            if key in room:
                room[key] = max(0, room[key] - len(followers))
        return evicted

    def put_back(self, delivery: Delivery) -> None:
        """Forget a delivery that was in flight, and stays in the log or in `outbox.waiting` as it is."""
        self._forget_sequences([delivery])

    @property
    def ready_count(self) -> int:
        """How many deliveries could run at once, had they a worker."""
        return len(self._ready)

    def _forget_sequences(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            if delivery.sequence is not None:
                self._behind_sequence.pop(delivery.sequence, None)

    def _queue(self, delivery: Delivery) -> None:
        key = delivery.event.key
        if key is None:
            self._ready.append(delivery)
            return
        queued = self._behind_key.get(key)
        if queued is None:
            self._behind_key[key] = deque()
            self._ready.append(delivery)
        elif self._awaited and self._is_awaited(delivery):
            queued.appendleft(delivery)
            awaited = self._awaited[key]
            awaited.event_ids.remove(delivery.event.id)
            if not awaited.event_ids:
                del self._awaited[key]
                self._ready.append(queued.popleft())
        else:
            queued.append(delivery)

    def _is_awaited(self, delivery: Delivery) -> bool:
        awaited = self._awaited.get(delivery.event.key or "")
        return awaited is not None and delivery.event.id in awaited.event_ids


def _is_fresh(delivery: Delivery) -> bool:
    """Tell whether it is as it was read: the log has all that there is to know of it."""
    return not delivery.waiting and not delivery.dispatched_at and not delivery.deferrals


def admit(delivery: Delivery, *, now: float, database_now: float, holds: Holds) -> Park | None:
    """Decide whether a delivery may be dispatched now, or must wait for its time or for a hold.

    Args:
        delivery: The delivery.
        now: The instant, by `time.monotonic()`.
        database_now: The same instant by the database's clock, in seconds of the epoch.
        holds: The holds.
    """
    publish_at = delivery.event.publish_at
    if publish_at is not None:
        early_seconds = publish_at.timestamp() - database_now
        if early_seconds > 0:
            return Park(Reason.SCHEDULED, early_seconds)
    held_seconds = holds.until(delivery.event.key) - now
    if held_seconds > 0 and not delivery.is_to_be_looked_at:
        return Park(Reason.HELD, held_seconds)
    return None


def has_expired(delivery: Delivery, *, database_now: float) -> bool:
    """Tell whether the deadline has passed and nothing irreversible was begun: what was begun is seen to its end."""
    expires_at = delivery.event.expires_at
    return expires_at is not None and expires_at.timestamp() <= database_now and not delivery.may_be_live
