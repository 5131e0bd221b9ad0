"""Reads the log and offers what it finds to the scheduler, as fast as it may and no faster."""

from __future__ import annotations

from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup, TaskStatus
from anyio.lowlevel import checkpoint
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.event import Event, EventId, Lane
from outbox.ledger import Step, load_steps
from outbox.log import LogReader, take_snapshot
from outbox.low_water import Cursor, Departure
from outbox.suspects import Suspicion, load_suspicion
from relay.delivery import Delivery, from_log
from relay.doorbell import Doorbell
from relay.metrics import RelayMetrics
from relay.spill import SPILLED_MAX, Spill

_PATIENCE_SECONDS = 0.1
_EMPTYING = 20
"""Where handlers free less than a twentieth of a full room in that time, hot keys fill it."""


@dataclass(slots=True)
class Reader:
    """Looks at the log when the doorbell says so.

    Lanes that are taken come with a cursor of their own, and so with a log reader of their own. While there are
    several, each look has them all read to one snapshot; those that stand there go on as one, and from then on a look
    is one statement again.

    A lane that a key crowds is parted, and read aside, by a task of its own, until it stands where the others do: to
    list a hundred thousand events takes a while, for which the others don't wait.

    Attributes:
        connection: In autocommit, with the planner settings of `outbox.database.PLANNER_SETTINGS`.
        aside: As that one; for lanes that are read aside, and for what else is of hot keys.
        slice_count: The most events that one statement returns.
        doorbell: When to look.
        offer: Takes deliveries, in the order in which they may run.
        in_hand_max: Reading pauses while so many events are read and not settled, but for those of hot keys, and at
            twice as many: the bound on memory.
        spill: Takes what is read of hot keys.
        falls_behind: Tells whether more could run than does: then the relay itself is slow, and no key is hot.
        metrics: Events emitted, backlog.
        logs: One log reader for each distinct cursor: nearly always one; none while we own no lane.
    """

    connection: AsyncConnection[TupleRow]
    aside: AsyncConnection[TupleRow]
    slice_count: int
    doorbell: Doorbell
    offer: Callable[[Sequence[Delivery]], None]
    in_hand_max: int
    metrics: RelayMetrics
    spill: Spill
    falls_behind: Callable[[], bool]
    logs: list[LogReader] = field(default_factory=list)
    _target: str | None = None
    _taken_count: int = 0
    _departures: dict[Lane, Departure] = field(default_factory=dict)
    _room: anyio.Event = field(default_factory=anyio.Event)
    _under_way: set[LogReader] = field(default_factory=set)
    _found_aside: int = 0

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read until cancelled. Raises psycopg.Error, LeaseLost."""
        task_status.started()
        async with anyio.create_task_group() as group:
            await self._run(group)

    async def _run(self, group: TaskGroup) -> None:
        while True:
            found = await self._look(group)
            self.doorbell.found(found)
            unread_count = sum(log.unread_count for log in self.logs)
            self.metrics.backlog.set(self.in_hand_count + self.spill.count + unread_count)
            if self.is_full:
                await self._wait_for_room()
            elif not found or self.doorbell.will_be_back:
                await self.doorbell.wait()

    def take(self, cursors: Iterable[tuple[Cursor, Sequence[Lane]]]) -> None:
        """Read these lanes too, from their cursors on."""
        self.logs += [
            LogReader(self.connection, lanes, cursor, self.slice_count, parts_crowd=True) for cursor, lanes in cursors
        ]
        self._taken_count += 1
        self._target = None  # taken before the lanes were, it says nothing of what their owner before us did

    def give_up(self, lanes: Collection[Lane]) -> None:
        """Read these lanes no more."""
        for log in self.logs:
            self._departures |= log.detach(lanes)
        self.logs = [log for log in self.logs if log.lanes]
        self.spill.give_up(lanes)
        self.make_room()

    def departed(self, lanes: Collection[Lane]) -> dict[Lane, Cursor]:
        """Return from where the next owner must read each of these lanes that we read no more, and forget them."""
        return {lane: self._departures.pop(lane).low_water() for lane in lanes}

    def settled(self, event_ids: Sequence[EventId]) -> None:
        """Let events go that are settled durably."""
        self.spill.settled(self.logs, event_ids)
        for log in self.logs:
            log.hand.settled(event_ids)
        for departure in self._departures.values():
            departure.settled(event_ids)
        self.make_room()

    def low_waters(self) -> list[tuple[Sequence[Lane], Cursor]]:
        """Return the cursors that may be saved now, with their lanes."""
        return [each for log in self.logs for each in log.hand.low_waters()]

    @property
    def in_hand_count(self) -> int:
        """How many events are read and not settled; without those that were spilled."""
        return sum(len(log.hand) for log in self.logs)

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be read now."""
        in_hand_count = self.in_hand_count
        if in_hand_count < self.in_hand_max and self.spill.count < SPILLED_MAX:
            return False
        cold_count = in_hand_count - self.spill.in_hand_count
        is_crowded = cold_count >= self.in_hand_max or in_hand_count >= 2 * self.in_hand_max
        return is_crowded or self.spill.count >= SPILLED_MAX

    def oldest_in_hand_at(self) -> float | None:
        """Return when the oldest event in hand was emitted, in seconds of the epoch."""
        instants = [at.timestamp() for log in self.logs if (at := log.hand.oldest_at()) is not None]
        return min(instants, default=None)

    async def _look(self, group: TaskGroup) -> int:
        """Read every log until its window is read out or there is no room, and return how many events that gave."""
        found, self._found_aside = self._found_aside, 0
        target = await self._common_target()
        unread = deque(self.logs)
        while unread and not self.is_full:
            log = unread.popleft()
            if not log.lanes or log in self._under_way or (target is not None and log.stands_at(target)):
                continue
            if log.connection is self.aside and target is not None:
                self._under_way.add(log)
                group.start_soon(self._read_aside, log, target)
                continue
            found += await self._read(log, target)
            if not log.stands_at(target):
                unread.append(log)  # a slice of each in turn: no lane waits for another one's backlog
        self._join(target)
        return found

    async def _read_aside(self, log: LogReader, target: str) -> None:
        """Read some of a log, and look again: the others have gone on meanwhile."""
        self._found_aside += await self._read(log, target)
        self._under_way.discard(log)
        self.doorbell.ring()

    async def _read(self, log: LogReader, target: str | None) -> int:
        """Read a slice, or list what is to be read, and return how many events that gave."""
        catching_up = log.catching_up
        events = await log.read(target)
        found = len(events)
        if (lane := log.crowded_lane) is not None:
            self.logs.append(log.part(lane, self.aside))
            self.doorbell.ring()  # its turn comes with the next look, which has a snapshot for all
        if (crowd := log.crowd) is not None:
            found += await self.spill.keep_apart(log, crowd)
        if events:
            await self._hand_over(log, events, catching_up=catching_up)
            await checkpoint()  # handlers begin before the next statement is made
        return found

    async def _common_target(self) -> str | None:
        """Return the snapshot to which all logs read, where there are several."""
        if len(self.logs) < 2:
            self._target = None
        # Those that stand there wait for those that come near, not for those that are far behind.
        elif self._target is None or self._under_way or max(log.unread_count for log in self.logs) > self.in_hand_max:
            taken_count = -1
            while taken_count != self._taken_count:  # what was taken meanwhile may have been read further than that
                taken_count = self._taken_count
                self._target = await take_snapshot(self.connection)
        return self._target

    def _join(self, target: str | None) -> None:
        """Make one of the logs that stand at the target."""
        if target is None or target != self._target:
            return
        there = [log for log in self.logs if log.stands_at(target) and log not in self._under_way]
        there.sort(key=lambda log: log.connection is self.aside)
        for log in there[1:]:
            there[0].join(log)
            self.logs.remove(log)
        if len(self.logs) == 1:
            self._target = None

    async def _hand_over(self, log: LogReader, events: list[Event], *, catching_up: bool) -> None:
        steps: dict[EventId, list[Step]] = {}
        known = Suspicion()
        if catching_up:
            # Only an event that a predecessor may have begun can have steps, or have killed a relay.
            event_ids = [event.id for event in events]
            steps = await load_steps(self.connection, event_ids)
            known = await load_suspicion(self.connection, event_ids)
            if gone := log.hand.missing(event_ids):  # their lane was given up meanwhile
                events = [event for event in events if event.id not in gone]
        self.metrics.read(Tally([event.type for event in events]))
        self.offer([from_log(event, steps, known) for event in self.spill.passing(log, events)])
        if log.unread_count > self.in_hand_max:
            await self.spill.pass_over(log, events)

    async def _wait_for_room(self) -> None:
        """Wait until half of the room is empty; where that hardly moves, hot keys fill it."""
        self._room = anyio.Event()
        while not self._room.is_set():
            in_hand_count = self.in_hand_count
            with anyio.move_on_after(_PATIENCE_SECONDS):
                await self._room.wait()
                return
            is_emptying = in_hand_count - self.in_hand_count > self.in_hand_max // _EMPTYING
            # What is being read aside may be in hand and not be offered yet: there is none of it to be given back.
            logs = [log for log in self.logs if log not in self._under_way]
            if not is_emptying and not self.falls_behind() and self.spill.make_room(logs):
                return

    def make_room(self) -> None:
        """There may be room again."""
        # Half empty before it goes on: a slice at a time, not an event at a time.
        if self.in_hand_count - self.spill.in_hand_count <= self.in_hand_max // 2 and not self.is_full:
            self._room.set()
