"""Which delivery may run: at most one of a key, sequences in order, and nobody starves."""

from __future__ import annotations

from collections import defaultdict, deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from outbox.take_over import Doubt
from relay.delivery import Delivery
from relay.scheduler import Scheduler
from tests.relay.deliveries import delivery

KEYS = st.sampled_from([None, "k", "k", "k", "l"])
SEQUENCES = st.sampled_from([None, None, "s", "s", "t"])


def take_all(scheduler: Scheduler) -> list[Delivery]:
    """Everything that may run now."""
    taken = []
    while (each := scheduler.take()) is not None:
        taken.append(each)
    return taken


def test_events_without_a_key_run_at_once() -> None:
    """Nothing relates them."""
    scheduler, all_of_them = Scheduler(), [delivery() for _ in range(3)]
    for each in all_of_them:
        assert scheduler.offer(each)
    assert scheduler.ready_count == 3
    assert take_all(scheduler) == all_of_them


def test_events_of_a_key_run_one_after_another() -> None:
    """The next is ready when the one before has finished, and not before; first come, first served."""
    scheduler, of_the_key = Scheduler(), [delivery("k") for _ in range(4)]
    for each in of_the_key:
        scheduler.offer(each)
    for each in of_the_key:
        assert take_all(scheduler) == [each]
        assert scheduler.ready_count == 0
        scheduler.finished(each)


def test_a_paused_event_delays_no_other_of_its_key() -> None:
    """Without a sequence the next one runs while the first is paused, and the paused one comes back behind it."""
    scheduler, first, second = Scheduler(), delivery("k"), delivery("k")
    for each in (first, second):
        scheduler.offer(each)
    take_all(scheduler)
    scheduler.finished(first)
    scheduler.resume(first)
    assert take_all(scheduler) == [second]
    scheduler.finished(second)
    assert take_all(scheduler) == [first]


def test_what_was_left_in_doubt_runs_before_all_else_of_its_key() -> None:
    """Whatever comes first; and nothing of the key runs before each of them has come."""
    scheduler, fresh, first, second, other = Scheduler(), *(delivery("k") for _ in range(3)), delivery("l")
    scheduler.await_first(Doubt(each.event.id, each.event.lane, "k") for each in (first, second))
    for each in (fresh, first, other):
        scheduler.offer(each)
    assert take_all(scheduler) == [other]
    scheduler.offer(second)
    for each in (second, first, fresh):
        assert take_all(scheduler) == [each]
        scheduler.finished(each)


def test_what_was_left_in_doubt_runs_before_an_earlier_one_of_its_sequence() -> None:
    """That one emitted earlier and committed later: what was begun is seen to its end."""
    scheduler, straggler, begun = Scheduler(), delivery("k", "s"), delivery("k", "s")
    scheduler.await_first([Doubt(begun.event.id, begun.event.lane, "k")])
    scheduler.offer(straggler)
    scheduler.offer(begun)
    assert take_all(scheduler) == [begun]


def test_a_key_is_free_again_once_its_lane_was_given_up() -> None:
    """What was in doubt may never come then."""
    scheduler, begun, fresh = Scheduler(), delivery("k"), delivery("k")
    scheduler.await_first([Doubt(begun.event.id, begun.event.lane, "k")])
    scheduler.offer(fresh)
    scheduler.forget([begun.event.lane])
    scheduler.offer(fresh)
    assert take_all(scheduler) == [fresh]


def test_a_paused_event_holds_up_its_sequence() -> None:
    """Those behind it stay behind it, until it has ended."""
    scheduler, first, second = Scheduler(), delivery("k", "s"), delivery("k", "s")
    for each in (first, second):
        scheduler.offer(each)
    take_all(scheduler)
    scheduler.finished(first)
    assert take_all(scheduler) == []
    scheduler.resume(first)
    assert take_all(scheduler) == [first]
    scheduler.finished(first)
    scheduler.ended(first)
    assert take_all(scheduler) == [second]


def test_an_event_that_waits_parks_those_behind_it() -> None:
    """They are given back in order, and later ones are refused until the sequence is unblocked."""
    scheduler, first, second, third = Scheduler(), *(delivery("k", "s") for _ in range(3))
    for each in (first, second, third):
        scheduler.offer(each)
    take_all(scheduler)
    scheduler.finished(first)
    assert scheduler.waits(first) == [second, third]
    assert not scheduler.offer(delivery("k", "s"))
    assert scheduler.offer(delivery("k", "t"))
    assert scheduler.offer(delivery("l", "s"))
    scheduler.unblock([("k", "s")])
    assert scheduler.offer(delivery("k", "s"))


def test_an_event_that_waited_may_pass_its_own_block() -> None:
    """The head of a blocked sequence is what unblocks it."""
    scheduler, head = Scheduler(), delivery("k", "s")
    head.waiting = True
    scheduler.block([("k", "s")])
    assert scheduler.is_blocked(("k", "s"))
    assert scheduler.offer(head)
    assert take_all(scheduler) == [head]


def test_an_event_without_a_sequence_is_not_parked() -> None:
    """Blocked sequences of its key are not its own."""
    scheduler = Scheduler()
    scheduler.block([("k", "s")])
    assert scheduler.offer(delivery("k"))
    assert scheduler.waits(delivery("k")) == []


def test_what_is_forgotten_with_its_lane_does_not_run() -> None:
    """Only what is in flight goes on; its end starts nothing."""
    scheduler, first = Scheduler(), delivery("k", "s")
    scheduler.offer(first)
    take_all(scheduler)
    for each in (delivery("k", "s"), delivery("k"), delivery()):
        scheduler.offer(each)
    scheduler.forget({first.event.lane})
    scheduler.finished(first)
    scheduler.ended(first)
    assert take_all(scheduler) == []


def test_a_hot_key_keeps_the_first_few_in_hand() -> None:
    """The others are given back, the last ones of each sequence, and other keys keep theirs."""
    scheduler = Scheduler()
    hot = [delivery("k", sequence) for sequence in (None, "s", "s", None, "t", "s", "t")]
    cold = [delivery("l") for _ in range(3)]
    for each in (*hot, *cold):
        scheduler.offer(each)
    evicted = scheduler.evict(["k"], 1)
    assert sorted(each.event.id for each in evicted) == [hot[number].event.id for number in (3, 4, 5, 6)]
    assert len(take_all(scheduler)) == 2


class AnyHistory(RuleBasedStateMachine):
    """Offers, takes and ends deliveries in every order, as workers, timers and the settler do."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler()
        self.in_flight: list[Delivery] = []
        self.paused: list[Delivery] = []
        self.parked: dict[tuple[str, str], deque[Delivery]] = defaultdict(deque)
        self.spilled: dict[str, deque[Delivery]] = {}
        self.offered: list[Delivery] = []
        self.begun: list[Delivery] = []
        self.ended: list[Delivery] = []

    @rule(key=KEYS, sequence=SEQUENCES)
    def offer(self, key: str | None, sequence: str | None) -> None:
        """An event comes from the log."""
        each = delivery(key, sequence if key else None)
        self.offered.append(each)
        if each.event.key in self.spilled:
            self.spilled[each.event.key].append(each)
        elif not self.scheduler.offer(each):
            self.park(each)

    @rule(key=st.sampled_from(["k", "l"]), kept_count=st.integers(0, 3))
    def spill(self, key: str, kept_count: int) -> None:
        """A key is hot: what is queued of it is given back, and what comes later stays behind that."""
        if key not in self.spilled:
            evicted = self.scheduler.evict([key], kept_count)
            self.spilled[key] = deque(sorted(evicted, key=lambda each: each.event.id))

    @precondition(lambda self: self.spilled)
    @rule(data=st.data(), count=st.integers(1, 3))
    def bring_some_back(self, data: st.DataObject, count: int) -> None:
        """Little is left of a hot key."""
        key = data.draw(st.sampled_from(sorted(self.spilled)))
        for _ in range(min(count, len(self.spilled[key]))):
            each = self.spilled[key].popleft()
            if not self.scheduler.offer(each):
                self.park(each)
        if not self.spilled[key]:
            del self.spilled[key]

    @rule()
    def take(self) -> None:
        """A worker is free."""
        each = self.scheduler.take()
        if each is not None:
            self.in_flight.append(each)
            each.dispatched_at = 1
            if each not in self.begun:
                self.begun.append(each)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """A handler's outcome is a receipt."""
        each = self.finish(data)
        self.scheduler.ended(each)
        self.ended.append(each)
        if each.sequence is not None and self.scheduler.is_blocked(each.sequence):
            self.promote(each.sequence)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        """A handler's outcome is a short deferral."""
        self.paused.append(self.finish(data))

    @precondition(lambda self: self.paused)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        """A short deferral is over."""
        each = data.draw(st.sampled_from(self.paused))
        self.paused.remove(each)
        self.scheduler.resume(each)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def wait(self, data: st.DataObject) -> None:
        """A handler's outcome is a waiting row; those behind it park."""
        each = self.finish(data)
        if each.sequence is None:
            self.paused.append(each)  # comes back at some time, as from its row
            return
        followers = self.scheduler.waits(each)
        self.parked[each.sequence].appendleft(each)
        each.waiting = True
        for follower in followers:
            self.park(follower)

    @precondition(lambda self: any(self.parked.values()))
    @rule(data=st.data())
    def due(self, data: st.DataObject) -> None:
        """The first waiting event of a sequence comes back."""
        sequence = data.draw(st.sampled_from(sorted(s for s, waiting in self.parked.items() if waiting)))
        head = self.parked[sequence][0]
        if head not in self.scheduler_has():
            self.bring_back(sequence)

    def bring_back(self, sequence: tuple[str, str]) -> None:
        """Offer the first waiting event of a sequence, unless an earlier one is in hand."""
        if not any(each.sequence == sequence and each.waiting for each in self.scheduler_has()):
            assert self.scheduler.offer(self.parked[sequence].popleft())

    def scheduler_has(self) -> list[Delivery]:
        """What has been offered and is neither ended nor parked."""
        parked = [each for waiting in self.parked.values() for each in waiting]
        return [each for each in self.offered if each not in self.ended and each not in parked]

    def finish(self, data: st.DataObject) -> Delivery:
        """A handler returns."""
        each = data.draw(st.sampled_from(self.in_flight))
        self.in_flight.remove(each)
        self.scheduler.finished(each)
        return each

    def park(self, each: Delivery) -> None:
        """A waiting row is written for an event that was not dispatched."""
        assert each.sequence is not None
        assert self.scheduler.waits(each) == []
        each.waiting = True
        self.parked[each.sequence].append(each)

    def promote(self, sequence: tuple[str, str]) -> None:
        """The database is asked what waits of a sequence."""
        if not self.parked[sequence]:
            self.scheduler.unblock([sequence])

    @invariant()
    def one_of_a_key_is_in_flight(self) -> None:
        """Never two calls for one account."""
        keys = [each.event.key for each in self.in_flight if each.event.key is not None]
        assert len(keys) == len(set(keys))

    @invariant()
    def sequences_end_in_order(self) -> None:
        """No event of a sequence begins before all earlier ones have ended."""
        for each in self.begun:
            if each.sequence is not None:
                earlier = [o for o in self.offered if o.sequence == each.sequence and o.event.id < each.event.id]
                assert all(o in self.ended for o in earlier)

    @invariant()
    def keys_begin_in_order(self) -> None:
        """Events of a key without a sequence begin in the order in which they came."""
        for key in ("k", "l"):
            begun = [each.event.id for each in self.begun if each.event.key == key and each.sequence is None]
            assert begun == sorted(begun)

    def teardown(self) -> None:
        """Whatever happened before, everything ends: nobody starves."""
        for _ in range(10 * len(self.offered) + 10):
            for each in self.paused:
                self.scheduler.resume(each)
            self.paused.clear()
            for key in list(self.spilled):
                for each in self.spilled.pop(key):
                    if not self.scheduler.offer(each):
                        self.park(each)
            for sequence in [s for s, waiting in self.parked.items() if waiting]:
                self.bring_back(sequence)
            self.take()
            for each in self.in_flight:
                self.scheduler.finished(each)
                self.scheduler.ended(each)
                self.ended.append(each)
                if each.sequence is not None:
                    self.promote(each.sequence)
            self.in_flight.clear()
            self.sequences_end_in_order()
        assert len(self.ended) == len(self.offered)


AnyHistory.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

TestAnyHistory = AnyHistory.TestCase
