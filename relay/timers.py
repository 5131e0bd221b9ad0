"""What waits: brings back due events of `outbox.waiting`, and short deferrals that never left memory."""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

import anyio
from anyio.abc import TaskStatus
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.event import Event, EventId, Lane
from outbox.holds import load_holds
from outbox.ledger import load_steps
from outbox.outcome import DeferReason, Reason
from outbox.resolution import load_resolutions
from outbox.suspects import Suspicion, load_suspicion
from outbox.waiting import Due, load_due, load_due_of_keys, seconds_to_next_due
from relay.delivery import Delivery, Park
from relay.holds import Holds

_DUE_MAX = 2000
"""Waiting events in hand."""

_DUE_OF_A_KEY_MAX = 500
_DUE_OF_A_KEY_MIN = 20
"""One of a key runs at a time: more of it in hand would only keep those of other keys out. A look costs the same for
many as for few, though: half of the room may be filled with many of a few keys."""

_LOOK_SECONDS_MAX = 30.0
"""Waiting rows and holds change by others' hands too. Whoever changes them notifies; a notification may be missed all
the same: so often a look is at all that is due."""

_UNLISTENED_LOOK_SECONDS_MAX = 10.0
"""The same where notifications are not heard."""

_OVERLAP_SECONDS = 5.0
"""What a look has seen due the next one passes over, but for rows that were about to commit: the settler's writes take
no longer. Busy keys may have any number of due rows, and no look may cost as many."""

_SUSPECT_SECONDS = 1.0
"""What a relay had in hand when it died is overdue when its lease has run out; what is prompt was in nobody's."""


@dataclass(slots=True)
class Timers:
    """Wakes what waits when its time has come.

    Attributes:
        connection: In autocommit; the guard looks on it too.
        holds: Taken over from the database with every look.
        offer: Takes deliveries.
        park: Takes a due event that must wait behind another one of its sequence.
        resume: Takes a paused delivery, with the reason why it was paused.
        is_listening: Tells whether notifications are heard.
        lanes: Whose waiting events are ours; `take` adds some, `give_up` takes some away.
    """

    connection: AsyncConnection[TupleRow]
    holds: Holds
    offer: Callable[[Sequence[Delivery]], None]
    park: Callable[[Delivery, Park], None]
    resume: Callable[[Delivery, DeferReason], None]
    is_listening: Callable[[], bool]
    lanes: set[Lane] = field(default_factory=set)
    _given_up: set[Lane] = field(default_factory=set)
    _paused: list[tuple[float, int, Delivery, DeferReason]] = field(default_factory=list)
    _order: count[int] = field(default_factory=count)
    _in_hand: dict[EventId, Event] = field(default_factory=dict)
    _in_hand_of_key: Tally[str] = field(default_factory=Tally)
    _crowded: dict[str, Lane] = field(default_factory=dict)
    _look_at: float = 0
    _seen_at: float = -math.inf
    _look_everywhere_at: float = 0
    _sooner: anyio.Event = field(default_factory=anyio.Event)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Bring back what is due, until cancelled. Raises psycopg.Error."""
        task_status.started()
        while True:
            self._sooner = anyio.Event()
            self._resume_paused()
            if time.monotonic() >= self._look_at:
                await self._look()
            first_paused = self._paused[0][0] if self._paused else math.inf
            with anyio.move_on_after(max(0.0, min(first_paused, self._look_at) - time.monotonic())):
                await self._sooner.wait()

    def pause(self, delivery: Delivery, seconds: float, reason: DeferReason) -> None:
        """Keep a delivery in memory for a while; nothing is written."""
        heapq.heappush(self._paused, (time.monotonic() + seconds, next(self._order), delivery, reason))
        if self._paused[0][2] is delivery:
            self._sooner.set()

    def expect(self, seconds: float) -> None:
        """Take note that a waiting row is due in so many seconds."""
        at = time.monotonic() + seconds
        if at < self._look_at:
            self._look_at = at
            self._sooner.set()

    def look(self) -> None:
        """Look at all that is due, at once: others than this relay changed what waits."""
        self._look_everywhere_at = 0
        self.expect(0)

    def settled(self, deliveries: Iterable[Delivery]) -> None:
        """Let go what was due: its waiting row is gone, or due at another time.

        One that came from the log was not in our hands. If a look has found its waiting row since, before the settler
        heard that it was written, that one is in flight.
        """
        if self._in_hand:
            self._let_go([delivery.event.id for delivery in deliveries if delivery.waiting])

    def _let_go(self, event_ids: Iterable[EventId]) -> None:
        made_room = len(self._in_hand) >= _DUE_MAX
        for event_id in event_ids:
            event = self._in_hand.pop(event_id, None)
            key = None if event is None else event.key
            if key is not None:
                self._in_hand_of_key[key] -= 1
                made_room |= key in self._crowded and self._has_room(key)
                if not self._in_hand_of_key[key]:
                    del self._in_hand_of_key[key]
        if made_room:
            self.expect(0)

    def take(self, lanes: Iterable[Lane]) -> None:
        """Look after the waiting events of these lanes too, from now on."""
        self.lanes.update(lanes)
        self.look()

    def give_up(self, lanes: Collection[Lane]) -> list[tuple[Delivery, float, DeferReason]]:
        """Look after these lanes no more; return what is paused of them, with the seconds that are left, and why."""
        self.lanes.difference_update(lanes)
        self._given_up.update(lanes)  # a look that is under way may bring some of theirs
        self._crowded = {key: lane for key, lane in self._crowded.items() if lane not in lanes}
        self._let_go([event.id for event in self._in_hand.values() if event.lane in lanes])
        now = time.monotonic()
        paused = [each for each in self._paused if each[2].event.lane in lanes]
        self._paused = [each for each in self._paused if each[2].event.lane not in lanes]
        heapq.heapify(self._paused)
        return [(delivery, max(0.0, at - now), reason) for at, _, delivery, reason in paused]

    def _resume_paused(self) -> None:
        now = time.monotonic()
        while self._paused and self._paused[0][0] <= now:
            _, _, delivery, reason = heapq.heappop(self._paused)
            self.resume(delivery, reason)

    async def _look(self) -> None:
        now = time.monotonic()
        seconds_max = _LOOK_SECONDS_MAX if self.is_listening() else _UNLISTENED_LOOK_SECONDS_MAX
        self._look_at = now + seconds_max
        self._given_up.clear()
        # Together: what is taken meanwhile is for the next look, and that looks everywhere. It begins with what is due
        # first of it: its doubts.
        lanes = list(self.lanes)
        if now >= self._look_everywhere_at:
            self._seen_at, self._look_everywhere_at = -math.inf, now + seconds_max
        look = self.holds.begin_look()
        held = await load_holds(self.connection)
        self.holds.looked(look, [(hold.key, time.monotonic() + hold.seconds) for hold in held])
        await self._refill()
        room = _DUE_MAX - len(self._in_hand)
        if room <= 0:
            return  # what settles makes room, and has us look again
        due = await load_due(
            self.connection,
            lanes,
            in_hand=list(self._in_hand),
            busy=list(self._crowded),
            limit=room,
            within_seconds=self._unseen_seconds(now),
        )
        await self._hand_over([each for each in due if self._take(each)])
        if len(due) == room:
            self.expect(0)
            return
        self._seen_at = now
        seconds = await seconds_to_next_due(
            self.connection,
            lanes,
            in_hand=list(self._in_hand),
            busy=list(self._crowded),
            within_seconds=self._unseen_seconds(time.monotonic()),
        )
        if seconds is not None:
            self.expect(max(0.001, seconds))

    async def _refill(self) -> None:
        """Take more of the keys of which more was due than we took."""
        keys = [key for key in self._crowded if self._has_room(key)]
        if not keys or len(self._in_hand) >= _DUE_MAX:
            return
        limit = self._due_of_a_key_max // 2
        due = await load_due_of_keys(self.connection, keys, in_hand=list(self._in_hand), limit=limit)
        found = Tally(each.event.key for each in due)
        for key in keys:
            if found[key] < limit:
                self._crowded.pop(key, None)
        await self._hand_over([each for each in due if self._take(each)])

    def _has_room(self, key: str) -> bool:
        return self._in_hand_of_key[key] <= self._due_of_a_key_max // 2

    @property
    def _due_of_a_key_max(self) -> int:
        half = _DUE_MAX // 2
        if len(self._in_hand) >= half:
            return _DUE_OF_A_KEY_MIN
        return max(_DUE_OF_A_KEY_MIN, min(half // max(1, len(self._crowded)), _DUE_OF_A_KEY_MAX))

    def _unseen_seconds(self, now: float) -> float | None:
        """How long ago what no look has seen can have been due; None: at any time."""
        seconds = now - self._seen_at + _OVERLAP_SECONDS
        return seconds if math.isfinite(seconds) else None

    def _take(self, due: Due) -> bool:
        """Take a due event in hand, unless so many of its key are, or its lane was given up during this look."""
        if due.event.lane in self._given_up:
            return False
        key = due.event.key
        if key is not None:
            if self._in_hand_of_key[key] >= self._due_of_a_key_max:
                self._crowded[key] = due.event.lane
                return False
            self._in_hand_of_key[key] += 1
        self._in_hand[due.event.id] = due.event
        return True

    async def _hand_over(self, taken: list[Due]) -> None:
        event_ids = [due.event.id for due in taken]
        steps = await load_steps(self.connection, event_ids) if taken else {}
        known = await load_suspicion(self.connection, event_ids) if taken else Suspicion()
        # What a relay died of is settled at a person's word without being handled again, whatever it waited for since.
        decided = [each.event.id for each in taken if each.reason is Reason.UNKNOWN or each.event.id in known.crashes]
        resolutions = await load_resolutions(self.connection, decided) if decided else {}
        for due in taken:
            if due.event.lane in self._given_up:
                continue
            delivery = Delivery(
                event=due.event,
                attempts=due.attempts,
                deferrals=due.deferrals,
                reason=due.reason,
                waiting=True,
                cancelled=due.cancelled,
                steps=steps.get(due.event.id, []),
                resolution=resolutions.get(due.event.id),
                crash_count=known.crashes.get(due.event.id, 0),
            )
            # One with an open intent was in somebody's hand, however short its relay's lease.
            was_in_hand = due.overdue_seconds > _SUSPECT_SECONDS or delivery.has_open_intent
            delivery.suspect = (known.relay_died and was_in_hand) or delivery.crash_count > 0
            if due.blocked and not (due.cancelled or due.expired or delivery.is_to_be_looked_at):
                self.park(delivery, Park(Reason.PARKED, math.inf))
            else:
                self.offer([delivery])
