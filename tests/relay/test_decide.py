"""Pure decisions: from an outcome to rows, how long to wait, and whether an event may run."""

from __future__ import annotations

import math
from datetime import timedelta
from random import Random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.batch import HoldRow, Try
from outbox.ledger import Step, StepState
from outbox.outcome import Cancelled, Dead, Defer, Expired, Hold, Outcome, Published, Reason, Retry, Unknown
from relay.backoff import Backoff
from relay.decide import Policy, Rows, decide, decide_unwritable
from relay.delivery import Delivery, GiveUp, Park
from relay.holds import Holds
from relay.scheduler import admit, has_expired
from relay.settings import RelaySettings
from tests.relay.deliveries import INTENT, NOW, delivery

POLICY = Policy(attempts_max=3, backoff=Backoff(2, 900), random=Random(1))


@pytest.mark.parametrize(
    ("outcome", "ended", "reason", "error", "result"),
    [
        (Published({"remote_id": "1"}), "published", None, None, {"remote_id": "1"}),
        (Dead("gone", "variant_missing"), "dead", "variant_missing", "gone", None),
        (Expired("late"), "expired", None, "late", None),
        (Cancelled("stopped"), "cancelled", None, "stopped", None),
    ],
)
def test_an_ending_is_a_receipt_and_nothing_else(
    outcome: Outcome, ended: str, reason: str | None, error: str | None, result: dict[str, str] | None
) -> None:
    """It says how often the event was tried, and whether a waiting row is to go."""
    each = delivery("k")
    each.attempts, each.deferrals, each.waiting = 2, 5, True
    rows = decide(each, outcome, POLICY)
    assert rows.receipt is not None
    assert (rows.wait, rows.tried, rows.hold) == (None, None, None)
    assert (rows.receipt.event, rows.receipt.outcome, rows.receipt.reason) == (each.event, ended, reason)
    assert (rows.receipt.error, rows.receipt.result, rows.receipt.was_waiting) == (error, result, True)
    assert (rows.receipt.attempts, rows.receipt.deferrals) == (2, 5)
    assert rows.receipt.dispatched_seconds_ago is None


def test_a_retry_is_an_attempt_and_a_wait() -> None:
    """It costs one attempt and no deferral."""
    each = delivery("k")
    rows = decide(each, Retry("no answer", context={"code": 1}), POLICY)
    assert rows.tried == Try(each.event, Reason.RETRY, "no answer", {"code": 1})
    assert rows.wait is not None
    assert (rows.wait.reason, rows.wait.attempts, rows.wait.deferrals) == (Reason.RETRY, 1, 0)
    assert 0 <= rows.wait.delay_seconds <= 2
    assert (rows.receipt, rows.hold) == (None, None)


def test_a_retry_waits_at_least_as_long_as_asked() -> None:
    """The backoff may make it longer, never shorter."""
    rows = decide(delivery(), Retry("later", after_seconds=100), POLICY)
    assert rows.wait is not None
    assert rows.wait.delay_seconds == 100


@pytest.mark.parametrize(("attempts", "is_dead"), [(1, False), (2, True)])
def test_the_last_attempt_is_the_end(attempts: int, is_dead: bool) -> None:
    """So many tries as the policy allows, this one included; each tells what it knows."""
    each = delivery()
    each.attempts = attempts
    rows = decide(each, Retry("no answer", context={"code": 1}), POLICY)
    assert (rows.receipt is not None) == is_dead
    assert rows.tried == Try(each.event, Reason.RETRY, "no answer", {"code": 1})
    if rows.receipt is not None:
        assert (rows.receipt.outcome, rows.receipt.reason) == ("dead", "attempts_exhausted")


LIVE = [INTENT, Step(2, "publish", StepState.DONE, {"remote_id": "1"})]
NOT_LIVE = [*LIVE, Step(3, "publish", StepState.INTENT, {}), Step(4, "publish", StepState.REFUSED, {})]
REVERSIBLE = [Step(1, "container", StepState.DONE, {"id": "1"})]


@pytest.mark.parametrize(
    ("steps", "ended"),
    [([], "dead"), (REVERSIBLE, "dead"), (NOT_LIVE, "dead"), (LIVE, "published"), ([*LIVE, INTENT], None)],
    ids=["nothing", "reversible", "refused", "live", "unknown"],
)
@pytest.mark.parametrize("why", ["attempts", "crashes", "unwritable"])
def test_what_is_live_is_not_dead(steps: list[Step], ended: str | None, why: str) -> None:
    """Whatever had the relay give up: what is live is published, and what may be waits for a person."""
    each = delivery("k", steps=steps)
    each.attempts = 2
    match why:
        case "attempts":
            rows = decide(each, Retry("no answer"), POLICY)
        case "crashes":
            rows = decide(each, GiveUp("no answer", "crashed_relay"), POLICY)
        case _:
            rows = decide_unwritable(each, Rows(), "no answer")
    if rows.receipt is None:
        assert ended is None
        assert rows.wait is not None
        assert (rows.wait.reason, rows.wait.delay_seconds) == (Reason.UNKNOWN, math.inf)
        assert "no answer" in (rows.wait.error or "")
    else:
        assert rows.receipt.outcome == ended
        assert rows.receipt.result == ({"remote_id": "1"} if ended == "published" else None)
        assert "no answer" in (rows.receipt.error or "")


def test_a_deferral_costs_no_attempt() -> None:
    """It is counted, and has a row of its own only when it has something to tell."""
    each = delivery()
    rows = decide(each, Defer(60, Reason.PROCESSING), POLICY)
    assert rows.wait is not None
    assert (rows.wait.reason, rows.wait.delay_seconds) == (Reason.PROCESSING, 60)
    assert (rows.wait.attempts, rows.wait.deferrals) == (0, 1)
    assert (rows.tried, rows.hold, rows.receipt) == (None, None, None)
    told = decide(each, Defer(60, Reason.MISSING, "not visible", {"a": 1}), POLICY)
    assert told.tried == Try(each.event, Reason.MISSING, "not visible", {"a": 1})


@pytest.mark.parametrize(
    ("scope", "key", "held"),
    [
        ("key", "k", ("key", "k")),
        ("app", "k", ("app", "")),
        ("app", None, ("app", "")),
        ("key", None, None),
    ],
)
def test_a_hold_pauses_what_it_names(scope: str, key: str | None, held: tuple[str, str] | None) -> None:
    """A key, the app, or, without a key, only the event itself."""
    each = delivery(key)
    rows = decide(each, Hold(60, "token", "revoked", scope), POLICY)  # type: ignore[arg-type]
    assert rows.hold == (None if held is None else HoldRow(held[0], held[1], 60, "token"))  # type: ignore[arg-type]
    assert rows.wait is not None
    assert (rows.wait.reason, rows.wait.attempts, rows.wait.deferrals) == (Reason.HELD, 0, 1)
    assert rows.tried is not None


def test_a_hold_for_quota_says_so() -> None:
    """The reason is what a dashboard groups by."""
    rows = decide(delivery("k"), Hold(60, "rate_limited", "used up"), POLICY)
    assert rows.wait is not None
    assert rows.wait.reason is Reason.RATE_LIMITED


def test_an_unknown_holds_its_key_at_least_until_it_is_reconciled() -> None:
    """What appears meanwhile can only be this event's."""
    rows = decide(delivery("k"), Unknown("no answer", 60), POLICY)
    assert rows.wait is not None
    assert rows.hold is not None
    assert (rows.wait.reason, rows.wait.delay_seconds, rows.wait.attempts) == (Reason.UNKNOWN, 60, 0)
    assert (rows.hold.scope, rows.hold.key, rows.hold.reason) == ("key", "k", "unknown")
    assert rows.hold.delay_seconds >= 60
    assert rows.tried is not None


def test_an_unknown_for_a_person_holds_nothing() -> None:
    """It may take days: the key goes on."""
    rows = decide(delivery("k"), Unknown("two match", None), POLICY)
    assert rows.wait is not None
    assert (rows.wait.reason, rows.wait.delay_seconds) == (Reason.UNKNOWN, math.inf)
    assert rows.hold is None


def test_what_was_not_dispatched_is_not_counted() -> None:
    """Parking is neither an attempt nor a deferral, and has nothing to tell."""
    each = delivery("k")
    rows = decide(each, Park(Reason.SCHEDULED, 60), POLICY)
    assert rows.wait is not None
    assert (rows.wait.reason, rows.wait.delay_seconds, rows.wait.error) == (Reason.SCHEDULED, 60, None)
    assert (rows.wait.attempts, rows.wait.deferrals) == (0, 0)
    assert (rows.tried, rows.hold, rows.receipt) == (None, None, None)


@given(
    base=st.floats(0.001, 3600),
    cap=st.floats(0.001, 86400),
    attempts=st.integers(1, 10_000),
    seed=st.integers(),
)
def test_a_backoff_stays_within_its_bounds(base: float, cap: float, attempts: int, seed: int) -> None:
    """However often an event failed, its delay is between zero and the cap."""
    backoff = Backoff(base, cap)
    assert 0 <= backoff.delay_seconds(attempts, Random(seed)) <= backoff.upper_seconds(attempts) <= cap


def test_a_backoff_doubles_up_to_its_cap() -> None:
    """The upper bound, not the delay: that is drawn from all of it."""
    assert [Backoff(2, 15).upper_seconds(attempts) for attempts in range(1, 6)] == [2, 4, 8, 15, 15]


def test_a_backoff_uses_the_whole_of_its_interval() -> None:
    """Full jitter: what failed together does not come back together."""
    random, backoff = Random(1), Backoff(8, 8)
    drawn = [backoff.delay_seconds(1, random) for _ in range(200)]
    assert min(drawn) < 1
    assert max(drawn) > 7


def test_a_hold_is_on_its_key_alone() -> None:
    """Other keys, and events without one, flow on."""
    holds = Holds()
    holds.hold("k", 10)
    assert holds.until("k") == 10
    assert holds.until("l") < 0
    assert holds.until(None) < 0


def test_a_hold_on_the_app_is_on_all() -> None:
    """The later of the two counts for a key that is held too."""
    holds = Holds()
    holds.hold(None, 10)
    holds.hold("k", 20)
    assert (holds.until("k"), holds.until("l"), holds.until(None)) == (20, 10, 10)


def test_a_hold_in_memory_is_never_shortened() -> None:
    """As in the database."""
    holds = Holds()
    for until in (10, 5):
        holds.hold("k", until)
        holds.hold(None, until)
    assert (holds.until("k"), holds.until(None)) == (10, 10)


SOON, PAST = NOW + timedelta(seconds=5), NOW - timedelta(seconds=5)


def admitted(each: Delivery, *, held_until: float = -math.inf) -> Park | None:
    """Whether a delivery may run at NOW, which is 100 by the monotonic clock."""
    holds = Holds()
    holds.hold("k", held_until)
    return admit(each, now=100, database_now=NOW.timestamp(), holds=holds)


def test_an_event_is_admitted_at_its_time_and_not_before() -> None:
    """It waits for exactly as long as it is early."""
    assert admitted(delivery(publish_at=SOON)) == Park(Reason.SCHEDULED, 5)
    assert admitted(delivery(publish_at=NOW)) is None
    assert admitted(delivery(publish_at=PAST)) is None
    assert admitted(delivery()) is None


def test_an_event_of_a_held_key_waits_for_the_holds_end() -> None:
    """To the second, or for a person."""
    assert admitted(delivery("k"), held_until=107) == Park(Reason.HELD, 7)
    assert admitted(delivery("k"), held_until=math.inf) == Park(Reason.HELD, math.inf)
    assert admitted(delivery("k"), held_until=100) is None
    assert admitted(delivery("l"), held_until=107) is None


def test_an_open_intent_passes_a_hold() -> None:
    """What reconciles is what the key is held for."""
    assert admitted(delivery("k", steps=[INTENT]), held_until=107) is None


def test_an_event_has_expired_at_its_deadline() -> None:
    """Not before; and never when something irreversible was begun."""
    now = NOW.timestamp()
    assert has_expired(delivery(expires_at=NOW), database_now=now)
    assert not has_expired(delivery(expires_at=SOON), database_now=now)
    assert not has_expired(delivery(), database_now=now)
    assert not has_expired(delivery(expires_at=PAST, steps=[INTENT]), database_now=now)
    done, refused = (Step(2, INTENT.name, state, {}) for state in (StepState.DONE, StepState.REFUSED))
    assert not has_expired(delivery(expires_at=PAST, steps=[INTENT, done]), database_now=now)
    assert has_expired(delivery(expires_at=PAST, steps=[INTENT, refused]), database_now=now)


@pytest.mark.parametrize(
    ("states", "is_open"),
    [
        ([("publish", StepState.INTENT)], True),
        ([("publish", StepState.INTENT), ("publish", StepState.REFUSED)], False),
        ([("publish", StepState.INTENT), ("publish", StepState.DONE)], False),
        ([("photo", StepState.INTENT), ("publish", StepState.INTENT), ("publish", StepState.DONE)], True),
        ([("publish", StepState.INTENT), ("publish", StepState.REFUSED), ("publish", StepState.INTENT)], True),
    ],
)
def test_a_delivery_knows_its_open_intents(states: list[tuple[str, StepState]], is_open: bool) -> None:
    """Any step that was begun and has no answer after it."""
    steps = [Step(position, name, state, {}) for position, (name, state) in enumerate(states, start=1)]
    assert delivery(steps=steps).has_open_intent == is_open


def test_what_is_tried_in_vain_lasts_longer_than_an_outage_of_an_hour() -> None:
    """By the defaults: an outage of Meta's kills no post whose deadline has not come."""
    settings = RelaySettings.model_validate({"dsn": "postgresql://u@h/d"})
    backoff = Backoff(settings.backoff_base_seconds, settings.backoff_cap_seconds)
    lasts = []
    for seed in range(200):
        random = Random(seed)
        lasts.append(sum(backoff.delay_seconds(attempts, random) for attempts in range(1, settings.attempts_max)))
    assert min(lasts) > 3600
    assert median(lasts) == pytest.approx(7200, rel=0.1)
