"""The one writer of outcomes tells the scheduler what is durable, and nothing that is not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from random import Random

import anyio
import pytest
from anyio.lowlevel import checkpoint
from prometheus_client import CollectorRegistry
from psycopg import errors, pq, sql

from outbox import lease
from outbox.database import connect
from outbox.event import EventId
from outbox.ledger import Step, StepState
from outbox.outcome import Cancelled, Dead, Defer, Outcome, Published, Reason, Retry, Unknown
from relay.backoff import Backoff
from relay.decide import Policy
from relay.delivery import Delivery, GiveUp, Park
from relay.holds import Holds
from relay.metrics import RelayMetrics
from relay.scheduler import Scheduler
from relay.settler import Settler
from relay.timers import Timers
from tests.outbox.store import LANES, blocked, event
from tests.relay.deliveries import INTENT
from tests.relay.running import Store, eventually, rows, value

pytestmark = pytest.mark.anyio


class Writer:
    """A settler on a connection, with what it tells."""

    def __init__(self, store: Store, relay_id: int) -> None:
        self.scheduler = Scheduler()
        self.durable: list[EventId] = []
        self.meanwhile: list[Delivery] = []
        self.settler = Settler(
            connection=store,
            relay_id=relay_id,  # type: ignore[arg-type]
            policy=Policy(8, Backoff(60, 60), Random(1)),
            scheduler=self.scheduler,
            holds=Holds(),
            metrics=RelayMetrics(CollectorRegistry(), ["t"]),
            on_durable=self.on_durable,
            on_waiting=lambda _: None,
            renew_lease=self.renew,
        )

    def on_durable(self, deliveries: Sequence[Delivery]) -> None:
        """What comes from the log while the settler is at work."""
        self.durable += [delivery.event.id for delivery in deliveries]
        while self.meanwhile:
            self.offer(self.meanwhile.pop(0))

    def offer(self, delivery: Delivery) -> bool:
        """As the relay does: queue it, or park it behind its sequence."""
        queued = self.scheduler.offer(delivery)
        if not queued:
            self.settler.settle(delivery, Park(Reason.PARKED, math.inf))
        return queued

    async def renew(self) -> None:
        """No lease is renewed here."""


@pytest.fixture
async def writer(store: Store) -> Writer:
    """A settler of an incarnation that owns all lanes."""
    relay_id = await lease.join(store, name="test", version="0", lease_seconds=60)
    await lease.take_lanes(store, relay_id)
    return Writer(store, relay_id)


async def test_what_is_submitted_together_is_one_statement(store: Store, writer: Writer) -> None:
    """A hundred outcomes are one commit."""
    for _ in range(100):
        writer.settler.settle(Delivery(await event(store)), Published())
    await writer.settler.flush()
    assert await value(store, "select count(distinct xmin::text) from outbox.receipts") == 1
    assert len(writer.durable) == 100


async def come_back(writer: Writer, first: Delivery) -> Delivery:
    """Let the first event of a sequence wait and come back, and return it, handled again and not settled."""
    assert writer.offer(first)
    writer.scheduler.take()
    writer.scheduler.finished(first)
    writer.settler.settle(first, Retry("once"))
    await writer.settler.flush()
    back = Delivery(first.event, attempts=1, waiting=True)
    assert writer.offer(back)
    writer.scheduler.take()
    writer.scheduler.finished(back)
    return back


async def park_behind_one_that_ends(writer: Writer, first: Delivery, second: Delivery) -> None:
    """Let the first event of a sequence wait, come back and end; the second one comes while its end is written."""
    back = await come_back(writer, first)
    writer.settler.settle(back, Published())
    writer.meanwhile.append(second)
    await writer.settler.flush()


async def test_an_event_that_parked_behind_one_that_has_ended_is_due(store: Store, writer: Writer) -> None:
    """It came when the first one still waited, as far as was known; nothing is before it any more."""
    first, second = [Delivery(await event(store, key="k", sequence="s")) for _ in range(2)]
    await park_behind_one_that_ends(writer, first, second)
    await writer.settler.flush()
    due = await rows(store, "select event_id from outbox.waiting where due_at <= clock_timestamp()")
    assert due == [(second.event.id,)]


async def test_no_event_overtakes_one_that_parked_a_moment_ago(store: Store, writer: Writer) -> None:
    """A sequence stays blocked while the waiting row of one of its events is not yet written."""
    first, second, third = [Delivery(await event(store, key="k", sequence="s")) for _ in range(3)]
    await park_behind_one_that_ends(writer, first, second)
    assert not writer.offer(third), "the third event runs before the second one"


async def test_no_event_overtakes_one_that_parks_with_the_other_half(store: Store, writer: Writer) -> None:
    """A batch that is split for a row that PostgreSQL refuses moves no sequence before all of it is written."""
    first, second, refused, third = [
        Delivery(await event(store, key=key, sequence=sequence))
        for key, sequence in (("k", "s"), ("k", "s"), (None, None), ("k", "s"))
    ]
    await refuse(store, refused.event.id)
    back = await come_back(writer, first)

    queued = []

    def read(deliveries: Sequence[Delivery]) -> None:
        if refused in deliveries:  # the half after that of the first event
            queued.append(writer.scheduler.offer(third))

    writer.settler.on_durable = read
    writer.settler.settle(back, Published())
    writer.settler.settle(refused, Published())
    assert not writer.offer(second)
    await writer.settler.flush()
    assert queued == [False], "the third event runs before the second one"
    due = await rows(store, "select event_id from outbox.waiting where due_at <= clock_timestamp()")
    assert due == [(second.event.id,)]


async def test_an_event_is_due_once_where_its_wait_is_found_before_it_is_told(
    database: str, store: Store, writer: Writer
) -> None:
    """A look finds a waiting row before the settler hears that it is written: it is handled once more, not twice."""
    offered: list[Delivery] = []
    found = [anyio.Event(), anyio.Event(), anyio.Event()]

    def offer(deliveries: Sequence[Delivery]) -> None:
        found[len(offered)].set()
        offered.extend(deliveries)

    first = Delivery(await event(store))
    told: list[Sequence[Delivery]] = []
    writer.settler.on_durable = told.append
    async with await connect(database, application_name="outbox-test") as connection:
        timers = Timers(connection, Holds(), offer, lambda _, __: None, lambda _, __: None, lambda: True)
        timers.take(LANES)
        writer.settler.settle(first, Defer(0, Reason.PROCESSING, "look again"))
        await writer.settler.flush()
        async with anyio.create_task_group() as group:
            await group.start(timers.run)
            with anyio.fail_after(60):
                await found[0].wait()
                timers.settled(told[0])  # late
                writer.settler.settle(Delivery(await event(store)), Defer(0, Reason.PROCESSING, "another one"))
                await writer.settler.flush()
                timers.look()
                await found[1].wait()
            group.cancel_scope.cancel()
    assert [each.event.id for each in offered] == [each.event.id for each in (first, told[1][0])]


async def refuse(store: Store, event_id: EventId) -> None:
    """Have PostgreSQL refuse the rows of one event, but for a receipt or a waiting row that says so."""
    await store.execute(
        "create function public.refuse() returns trigger language plpgsql as $$ begin "
        "if to_jsonb(new) ->> 'event_id' = tg_argv[0] and coalesce(new.error, '') not like '%refused here%' then "
        "raise check_violation using message = 'refused here'; end if; return new; end $$"
    )
    for table in ("receipts", "waiting"):
        await store.execute(
            sql.SQL(
                "create trigger refuse before insert on outbox.{} for each row execute function public.refuse({})"
            ).format(sql.Identifier(table), sql.Literal(str(event_id)))
        )


@pytest.mark.parametrize("suffering", [0, 7, 12])
async def test_one_event_suffers_from_a_row_that_postgresql_refuses(
    store: Store, writer: Writer, suffering: int
) -> None:
    """It is dead and says why; what was to be written with it is written."""
    of = [Delivery(await event(store, key="k")) for _ in range(13)]
    await refuse(store, of[suffering].event.id)
    for each in of:
        writer.settler.settle(each, Retry("once"))
    await writer.settler.flush()
    assert sorted(writer.durable) == [each.event.id for each in of]
    [(event_id, outcome, reason, error)] = await rows(
        store, "select event_id, outcome, reason, error from outbox.receipts"
    )
    assert (event_id, outcome, reason) == (of[suffering].event.id, "dead", "invalid_outcome")
    assert error == "what the handler returned can't be kept: PostgreSQL refuses it: refused here"
    assert await value(store, "select count(*) from outbox.waiting") == 12


async def test_what_is_published_stays_published_when_its_result_is_refused(store: Store, writer: Writer) -> None:
    """It has happened, whatever there was to tell of it."""
    of = Delivery(await event(store))
    await refuse(store, of.event.id)
    writer.settler.settle(of, Published({"remote_id": "1"}))
    await writer.settler.flush()
    assert await rows(store, "select outcome, result from outbox.receipts") == [("published", None)]


async def suspected(store: Store, *, on_record: bool = False) -> Delivery:
    """An event that a relay is known to have had in hand when it died, with a call of which nobody knows."""
    each = Delivery(await event(store, key="k"), suspect=True, on_record=on_record, crash_count=1, steps=[INTENT])
    await store.execute("insert into outbox.dispatches (event_id, relay_id) values (%s, 1)", [each.event.id])
    return each


@pytest.mark.parametrize(
    ("outcome", "is_cleared"),
    [
        (Park(Reason.HELD, 60), False),
        (Park(Reason.PARKED, math.inf), False),
        (Cancelled(), True),
        (GiveUp("three relays died", "crashed_relay"), True),
        (Retry("once"), True),
        (Defer(60, Reason.PROCESSING), True),
    ],
    ids=["held", "parked", "cancelled", "given-up", "retried", "deferred"],
)
async def test_a_suspect_is_cleared_by_what_came_of_it(
    store: Store, writer: Writer, outcome: Outcome | Park | GiveUp, is_cleared: bool
) -> None:
    """Not by a wait that began before it was dispatched again: it would not be alone when that ends."""
    was_dispatched = isinstance(outcome, Retry | Defer)
    writer.settler.settle(await suspected(store, on_record=was_dispatched), outcome)
    await writer.settler.flush()
    assert await value(store, "select count(*) from outbox.dispatches") == (0 if is_cleared else 1)


@pytest.mark.parametrize("dispatched", [False, True])
async def test_a_suspect_that_is_put_back_is_cleared_if_it_was_dispatched(
    store: Store, writer: Writer, dispatched: bool
) -> None:
    """One that waited to be alone when its lane was given up has shown nothing."""
    writer.settler.acquit(await suspected(store, on_record=dispatched))
    await writer.settler.flush()
    assert await value(store, "select count(*) from outbox.dispatches") == (0 if dispatched else 1)


async def test_a_suspect_is_cleared_when_the_outcome_beside_it_is_refused(store: Store, writer: Writer) -> None:
    """What PostgreSQL does not take of another event is not held against this one."""
    of = Delivery(await event(store))
    await refuse(store, of.event.id)
    writer.settler.acquit(await suspected(store, on_record=True))
    writer.settler.settle(of, Published())
    await writer.settler.flush()
    assert await value(store, "select count(*) from outbox.dispatches") == 0


async def test_what_may_be_live_is_not_dead_when_its_outcome_is_refused(store: Store, writer: Writer) -> None:
    """It waits for a person."""
    of = Delivery(await event(store), steps=[INTENT])
    await refuse(store, of.event.id)
    writer.settler.settle(of, Unknown("no answer", 60))
    await writer.settler.flush()
    assert await rows(store, "select reason, due_at = 'infinity' from outbox.waiting") == [("unknown", True)]


async def test_the_next_event_of_a_sequence_goes_on_when_one_suffers(store: Store, writer: Writer) -> None:
    """It was to wait, and those behind it with it; dead instead, it holds up nobody."""
    first, second = [Delivery(await event(store, key="k", sequence="s")) for _ in range(2)]
    await refuse(store, first.event.id)
    for each in (first, second):
        assert writer.offer(each)
    writer.settler.settle(writer.scheduler.take() or first, Retry("once"))
    await writer.settler.flush()
    due = await rows(store, "select event_id from outbox.waiting where due_at <= clock_timestamp()")
    assert due == [(second.event.id,)]


async def test_the_next_of_a_sequence_runs_when_the_end_of_the_one_before_is_durable(
    store: Store, writer: Writer
) -> None:
    """Not before: a relay that dies in between would handle the first one again after the second."""
    first, second = [Delivery(await event(store, key="k", sequence="s")) for _ in range(2)]
    assert writer.offer(first)
    assert writer.offer(second)
    assert writer.scheduler.take() is first
    writer.scheduler.finished(first)
    writer.settler.settle(first, Published())
    assert writer.scheduler.take() is None
    await writer.settler.flush()
    assert writer.scheduler.take() is second


async def test_a_flush_by_others_does_not_make_the_settler_deaf(store: Store, writer: Writer) -> None:
    """What is submitted after somebody else wrote, with nothing to write, is written too."""
    written = anyio.Event()
    writer.settler.on_durable = lambda _: written.set()
    async with anyio.create_task_group() as group:
        await group.start(writer.settler.run)
        await anyio.wait_all_tasks_blocked()
        await writer.settler.flush()
        writer.settler.settle(Delivery(await event(store)), Published())
        with anyio.fail_after(60):
            await written.wait()
        group.cancel_scope.cancel()


async def test_what_comes_soon_after_a_statement_goes_together(store: Store, writer: Writer) -> None:
    """One that comes alone leaves at once; those that follow at its heels wait for one another, but not at shutdown."""
    writer.settler.gather_receipts_seconds = 3600
    first, second, third = [Delivery(await event(store)) for _ in range(3)]
    written = anyio.Event()
    writer.settler.on_durable = lambda _: written.set()
    async with anyio.create_task_group() as group:
        await group.start(writer.settler.run)
        writer.settler.settle(first, Published())
        with anyio.fail_after(60):
            await written.wait()
        for each in (second, third):
            writer.settler.settle(each, Published())
            await anyio.wait_all_tasks_blocked()
        await writer.settler.flush()
        group.cancel_scope.cancel()
    assert await value(store, "select count(distinct xmin::text) from outbox.receipts") == 2
    assert await value(store, "select count(*) from outbox.receipts") == 3


async def test_a_statement_that_holds_enough_waits_for_no_more(store: Store, writer: Writer) -> None:
    """Workers may stand still for it: what is in doubt is bounded."""
    writer.settler.gather_receipts_seconds = 3600
    writer.settler.gather_max = 2
    deliveries = [Delivery(await event(store)) for _ in range(3)]
    written = anyio.Event()
    async with anyio.create_task_group() as group:
        await group.start(writer.settler.run)
        writer.settler.on_durable = lambda _: written.set()
        for each in deliveries:
            writer.settler.settle(each, Published())
            if each is not deliveries[1]:
                with anyio.fail_after(60):
                    await written.wait()
                written = anyio.Event()
            await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert await value(store, "select count(distinct xmin::text) from outbox.receipts") == 2


@pytest.mark.parametrize("sequence", [None, "s"])
async def test_a_full_statement_goes_out_before_anything_is_told(
    database: str, store: Store, writer: Writer, sequence: str | None
) -> None:
    """The server is not kept waiting; but what a sequence does next is found out before, on the same connection."""
    writer.settler.gather_max = 2
    deliveries = [Delivery(await event(store, key="k", sequence=sequence)) for _ in range(3)]
    under_way: list[bool] = []
    writer.settler.on_durable = lambda _: under_way.append(store.info.transaction_status is pq.TransactionStatus.ACTIVE)
    async with anyio.create_task_group() as group:
        for _ in range(2):
            await group.start(writer.settler.run)
        async with await connect(database, application_name="outbox-test") as other, other.transaction():
            await other.execute("lock table outbox.receipts in share mode")
            for each in deliveries:  # the first one leaves at once
                writer.settler.settle(each, Published())
                await anyio.wait_all_tasks_blocked()
        await eventually(partial(_has_told, under_way, 2))
        group.cancel_scope.cancel()
    assert under_way == [sequence is None, False]
    assert await value(store, "select count(*) from outbox.receipts") == 3


async def test_a_sequence_stays_blocked_for_what_parks_with_the_next_statement(store: Store, writer: Writer) -> None:
    """It was made up already when the event before ended, and had not been written when the database was asked."""
    first, second, third = [Delivery(await event(store, key="k", sequence="s")) for _ in range(3)]
    first.waiting = True
    assert first.sequence is not None
    writer.scheduler.block([first.sequence])
    assert writer.offer(first)
    assert writer.scheduler.take() is first
    writer.scheduler.finished(first)
    blocked: list[bool] = []

    async def flush() -> None:
        await writer.settler.flush()
        blocked.append(writer.scheduler.is_blocked(("k", "s")))

    async with anyio.create_task_group() as group:
        writer.settler.settle(first, Published())
        group.start_soon(flush)
        await checkpoint()
        assert not writer.offer(second)
        group.start_soon(flush)
    assert blocked == [True, True]
    assert not writer.offer(third)
    due = await rows(store, "select event_id from outbox.waiting where due_at <= clock_timestamp()")
    assert due == [(second.event.id,)]


@pytest.mark.parametrize("what", ["step", "suspect", "sequence", "retry"])
async def test_receipts_go_with_what_somebody_waits_for(store: Store, writer: Writer, what: str) -> None:
    """Alone they may be a while in doubt; a handler, a sequence or a due time may not wait as long."""
    writer.settler.gather_receipts_seconds = 3600
    first, second = [Delivery(await event(store)) for _ in range(2)]
    other = Delivery(await event(store, key="k", sequence="s" if what == "sequence" else None))
    async with anyio.create_task_group() as group:
        await group.start(writer.settler.run)
        writer.settler.settle(first, Published())
        await eventually(partial(_is_durable, writer, first))
        writer.settler.settle(second, Published())
        await anyio.wait_all_tasks_blocked()
        assert second.event.id not in writer.durable
        match what:
            case "step":
                group.start_soon(writer.settler.write_step, other.event, Step(1, "container", StepState.DONE, {}), None)
            case "suspect":
                group.start_soon(writer.settler.record_dispatch, other.event)
            case "sequence":
                writer.settler.settle(other, Published())
            case _:
                writer.settler.settle(other, Retry("no answer"))
        await eventually(partial(_is_durable, writer, second))
        group.cancel_scope.cancel()


async def park_while_a_statement_fails(database: str, store: Store, writer: Writer) -> None:
    """Have the statement fail that has the first of a sequence wait, while the one that parks the next is made up."""
    writer.settler.gather_max = 2
    for each in [Delivery(await event(store)) for _ in range(2)]:  # its statement is prepared, as it is in a relay
        writer.settler.settle(each, Retry("no answer"))
    await writer.settler.flush()
    back = Delivery(each.event, waiting=True)
    first, second, third = [Delivery(await event(store, key="k", sequence="s")) for _ in range(3)]
    async with anyio.create_task_group() as group:
        for _ in range(2):
            await group.start(writer.settler.run)
        async with await connect(database, application_name="outbox-test") as other, other.transaction():
            await other.execute("select from outbox.waiting for update")
            assert writer.offer(first)
            writer.settler.settle(back, Published())
            writer.settler.settle(first, Retry("no answer"))
            await blocked(other, store)
            assert not writer.offer(second)
            assert not writer.offer(third)
            await anyio.wait_all_tasks_blocked()
            await other.execute("select pg_cancel_backend(%s)", [store.info.backend_pid])


async def test_nothing_is_written_after_a_statement_that_failed(database: str, store: Store, writer: Writer) -> None:
    """What it parks behind an event has no place where that event does not wait: the next relay would run it first."""
    with pytest.raises(ExceptionGroup) as failures:
        await park_while_a_statement_fails(database, store, writer)
    assert failures.group_contains(errors.QueryCanceled)
    async with await connect(database, application_name="outbox-test") as other:
        await eventually(partial(_is_idle, other, store.info.backend_pid))
        assert await rows(other, "select event_id from outbox.waiting where key = 'k'") == []


@pytest.mark.parametrize("steps", [[], [INTENT]], ids=["not-begun", "may-be-live"])
async def test_what_is_cancelled_behind_one_that_waits_ends_unless_it_may_be_live(
    store: Store, writer: Writer, steps: list[Step]
) -> None:
    """The first of a sequence may commit when the call of a later one was made: that one is looked at in its turn."""
    first, second = [Delivery(await event(store, key="k", sequence="s")) for _ in range(2)]
    second.waiting, second.cancelled, second.steps = True, True, steps
    assert writer.offer(first)
    assert writer.offer(second)
    writer.settler.settle(first, Retry("no answer"))
    await writer.settler.flush()
    waiting = await rows(store, "select event_id, reason from outbox.waiting order by event_id")
    assert waiting == [(first.event.id, "retry"), *([(second.event.id, "parked")] if steps else [])]
    ended = await rows(store, "select event_id, outcome from outbox.receipts")
    assert ended == ([] if steps else [(second.event.id, "cancelled")])


async def test_a_sequence_waits_for_a_person_when_the_end_of_what_may_be_live_is_refused(
    store: Store, writer: Writer
) -> None:
    """It was to end, and the next one to begin; when the person has decided, it goes on, and then the next one."""
    first, second = [Delivery(await event(store, key="k", sequence="s")) for _ in range(2)]
    first.steps = [INTENT]
    await refuse(store, first.event.id)
    assert writer.offer(first)
    assert writer.offer(second)
    assert writer.scheduler.take() is first
    writer.scheduler.finished(first)
    writer.settler.settle(first, Dead("no"))
    for _ in range(2):
        await writer.settler.flush()
    waiting = await rows(store, "select event_id, reason from outbox.waiting order by event_id")
    assert waiting == [(first.event.id, "unknown"), (second.event.id, "parked")]
    back = Delivery(first.event, waiting=True, steps=[INTENT])
    assert writer.offer(back)
    assert writer.scheduler.take() is back


async def _is_idle(store: Store, backend_pid: int) -> bool:
    return not await rows(store, "select from pg_stat_activity where pid = %s and state = 'active'", [backend_pid])


async def _has_told(told: list[bool], count: int) -> bool:
    return len(told) >= count


async def _is_durable(writer: Writer, delivery: Delivery) -> bool:
    return delivery.event.id in writer.durable
