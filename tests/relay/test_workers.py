"""Workers by themselves: what they dispatch beside what, and what they do with a handler's answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import anyio
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from outbox.event import Event
from outbox.ledger import Ledger, Step
from outbox.outcome import Defer, Outcome, Published, Reason
from outbox.resolution import Resolution
from relay.clock import DatabaseClock
from relay.delivery import Delivery, GiveUp, Park
from relay.holds import Holds
from relay.metrics import RelayMetrics
from relay.scheduler import Scheduler
from relay.worker import Workers
from tests.relay.deliveries import INTENT, NOW, delivery
from tests.relay.running import eventually

pytestmark = pytest.mark.anyio

CONCURRENCY = 4


@dataclass
class Bench:
    """Workers whose handler and whose steps wait for the test, and what they give back."""

    handling: list[Delivery] = field(default_factory=list)
    together_max: int = 0
    handled: anyio.Event = field(default_factory=anyio.Event)
    released: anyio.Event = field(default_factory=anyio.Event)
    stepped: anyio.Event = field(default_factory=anyio.Event)
    outcome: Outcome = field(default_factory=Published)
    settled: list[tuple[Delivery, Outcome | Park | GiveUp]] = field(default_factory=list)
    paused: list[float] = field(default_factory=list)
    _in_flight: int = 0

    async def handle(self, event: Event, ledger: Ledger) -> Outcome:
        """Wait until the test says so, and count who does."""
        self._in_flight += 1
        self.together_max = max(self.together_max, self._in_flight)
        hangs = event.key == "hangs"  # as a thread does: no cancellation reaches it
        with anyio.CancelScope(shield=hangs):
            await (self.released if hangs else self.handled).wait()
        self._in_flight -= 1
        return self.outcome

    async def write_step(self, event: Event, step: Step, call_seconds: float | None) -> datetime:
        """Be durable when the test says so."""
        await self.stepped.wait()
        return NOW

    async def record_dispatch(self, event: Event) -> None:
        """Be on record at once."""

    def workers(self, *, handler_seconds: float = 60) -> Workers:
        """Four handlers at once."""
        return Workers(
            scheduler=Scheduler(),
            handlers={"t": self.handle},
            write_step=self.write_step,
            settle=lambda each, outcome: self.settled.append((each, outcome)),
            record_dispatch=self.record_dispatch,
            put_back=lambda _: None,
            pause=lambda _, seconds, __: self.paused.append(seconds),
            in_doubt_count=lambda: 0,
            settler_is_ready=lambda: False,
            clock=DatabaseClock(),
            holds=Holds(),
            metrics=RelayMetrics(CollectorRegistry(), ["t"]),
            concurrency=CONCURRENCY,
            handler_seconds=handler_seconds,
            short_deferral_seconds=30,
            unknown_seconds=60,
            crashes_max=3,
        )

    @asynccontextmanager
    async def working(self, *deliveries: Delivery, handler_seconds: float = 60) -> AsyncIterator[None]:
        """Work on these for the block."""
        workers = self.workers(handler_seconds=handler_seconds)
        async with anyio.create_task_group() as group:
            await group.start(workers.run)
            for each in deliveries:
                workers.scheduler.offer(each)
                workers.wake()
                await anyio.wait_all_tasks_blocked()
            yield
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()


async def test_a_suspect_is_alone_though_a_persons_decision_is_being_written() -> None:
    """What waits for its step to be durable is about to be dispatched: it would run beside the suspect."""
    bench = Bench()
    resolved, suspect = delivery("k", steps=[INTENT]), delivery("l")
    resolved.resolution = Resolution(INTENT.position, INTENT.name, True, "17", "seen", "dana")
    suspect.suspect, suspect.crash_count = True, 1
    async with bench.working(resolved, suspect):
        bench.stepped.set()
        await anyio.wait_all_tasks_blocked()
        bench.handled.set()
    assert [each for each, _ in bench.settled] == [resolved, suspect]
    assert bench.together_max == 1


async def test_no_handler_begins_for_a_lane_that_was_given_up_while_a_decision_was_written() -> None:
    """It has had its time: the next owner goes on with the step."""
    bench, put_back = Bench(), list[Delivery]()
    resolved = delivery("k", steps=[INTENT])
    resolved.resolution = Resolution(INTENT.position, INTENT.name, False, None, "absent", "dana")
    workers = bench.workers()
    workers.put_back = put_back.append
    async with anyio.create_task_group() as group:
        await group.start(workers.run)
        workers.scheduler.offer(resolved)
        workers.wake()
        await anyio.wait_all_tasks_blocked()
        workers.give_up([resolved.event.lane])
        bench.stepped.set()
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert (put_back, bench.together_max) == ([resolved], 0)


async def test_a_deferral_of_no_time_does_not_spin() -> None:
    """A handler that asks to be called again at once gets a moment of others' time first."""
    bench = Bench(outcome=Defer(0, Reason.PROCESSING))
    bench.handled.set()
    async with bench.working(delivery("k")):
        pass
    [seconds] = bench.paused
    assert seconds >= 0.1


@pytest.mark.parametrize("crash_count", [0, 1], ids=["any", "suspect"])
async def test_a_handler_that_can_not_be_ended_is_told_of_once_and_stops_nobody(crash_count: int) -> None:
    """Neither a suspect that is to be alone nor, where it is a suspect itself, all others wait for it."""
    bench = Bench()
    bench.handled.set()
    hanging, suspect, other = delivery("hangs"), delivery("l"), delivery("m")
    hanging.suspect, hanging.crash_count = bool(crash_count), crash_count
    suspect.suspect, suspect.crash_count = True, 1
    with capture_logs() as logs:
        async with bench.working(hanging, suspect, other, handler_seconds=0.05):

            async def others_are_settled() -> bool:
                return [each for each, _ in bench.settled] == [suspect, other]

            try:
                await eventually(others_are_settled)
                for _ in range(10):  # looks at it again
                    await anyio.sleep(0.02)
            finally:
                bench.released.set()
    assert [line["event_id"] for line in logs if line["event"] == "handler.overdue"] == [hanging.event.id]
    assert bench.settled[2] == (hanging, Published())


@pytest.mark.parametrize(
    ("keys", "running_count", "falls_behind"),
    [("abcd", 0, True), ("abcd", 3, True), ("abcd", 4, False), ("aaaa", 1, False), ("aaaa", 0, False)],
)
async def test_a_full_room_is_no_keys_doing_while_more_could_run_than_does(
    keys: str, running_count: int, falls_behind: bool
) -> None:
    """Handlers are free and there are events for all of them: what is slow is this process, or its database."""
    workers = Bench().workers()
    for key in keys:
        workers.scheduler.offer(delivery(key))
    workers._running.update({delivery(f"running {number}"): anyio.CancelScope() for number in range(running_count)})
    assert workers.falls_behind() is falls_behind
