"""From an event to its end, through a whole relay: what each outcome of a handler does."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from functools import partial

import anyio
import pytest

from outbox.database import connect
from outbox.event import Event, EventId
from outbox.ledger import Ledger, StepState
from outbox.outcome import Dead, Defer, Hold, Outcome, Published, Reason, Retry, Unknown
from relay.worker import IN_DOUBT_MAX
from tests.relay.running import (
    PROMPT_SECONDS,
    Gate,
    Script,
    Store,
    all_settled,
    emit,
    end_waits,
    eventually,
    let_expire,
    rows,
    settings,
    state_is,
    value,
    working,
)

pytestmark = pytest.mark.anyio

ENDLESS: dict[str, object] = {}
ENDLESS["again"] = ENDLESS
COUNT_WAITING = "select count(*) from outbox.waiting"
SETTLER_WAITS = """
select coalesce(bool_or(cardinality(pg_blocking_pids(pid)) > 0), false) from pg_stat_activity
where datname = current_database() and application_name = 'outbox-settler'
"""


async def publish(event: Event, ledger: Ledger, *, outcome: Outcome | Exception) -> Outcome:
    """Announce an irreversible call, and break off before its answer."""
    await ledger.intent("publish", fingerprint="f", detail={"container": "1"}, call_seconds=1)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def reconcile(event: Event, ledger: Ledger) -> Outcome:
    """Find the intent that is open, and that its call went through."""
    intent = ledger.open_intent()
    assert intent is not None
    await ledger.done("publish", {"remote_id": intent.detail["container"]})
    return Published({"remote_id": "1"})


async def test_an_event_that_just_works_is_published(database: str, store: Store, script: Script) -> None:
    """One call, one receipt with the result, and nothing else."""
    script.acts["a"] = [Published({"remote_id": "9"})]
    async with working(settings(database), script):
        event_id = await emit(store, "a", key="k")
        await state_is(store, event_id, "published")
    assert script.calls == ["a"]
    [row] = await rows(store, "select outcome, attempts, deferrals, result, error from outbox.receipts")
    assert row == ("published", 0, 0, {"remote_id": "9"}, None)
    assert await value(store, "select count(*) from outbox.attempts") == 0


async def test_events_that_were_there_before_the_relay_are_published(
    database: str, store: Store, script: Script
) -> None:
    """The log is the truth: nobody rang for these."""
    for name in ("a", "b"):
        await emit(store, name, key="k")
    async with working(settings(database), script):
        await all_settled(store, 2)
    assert script.calls == ["a", "b"]


async def test_what_a_crash_would_have_handled_once_more_is_bounded(
    database: str, store: Store, script: Script
) -> None:
    """While PostgreSQL takes no outcome, handlers go on for a while, and no further."""
    async with working(settings(database, lease_seconds=60), script):
        async with await connect(database, application_name="outbox-test") as other, other.transaction():
            await other.execute("lock table outbox.receipts in share mode")
            await store.execute("select outbox.emit('t', key => n::text) from generate_series(1, 1000) as n")

            async def stands_still() -> bool:
                return len(script.calls) == IN_DOUBT_MAX

            await eventually(stands_still)
            await eventually(partial(value, store, SETTLER_WAITS))
            await store.execute("select outbox.emit('t', key => 'more')")
            await anyio.wait_all_tasks_blocked()
            assert len(script.calls) == IN_DOUBT_MAX
        await all_settled(store, 1001)
    assert len(script.calls) == 1001


async def test_handlers_that_never_wait_let_the_settler_write(database: str, store: Store, script: Script) -> None:
    """A full statement is made up at once: while it is under way, the next one is filled."""
    await store.execute("select outbox.emit('t', key => n::text) from generate_series(1, 1000) as n")
    async with working(settings(database, concurrency=10), script):
        await all_settled(store, 1000)
    counts = await rows(store, "select count(*) from outbox.receipts group by xmin::text order by min(event_id)")
    assert max(count for (count,) in counts) < IN_DOUBT_MAX // 2 + 10


async def test_a_retry_costs_an_attempt_and_can_succeed(database: str, store: Store, script: Script) -> None:
    """Each failed try has its row, the receipt counts them, and the waiting row is gone."""
    script.acts["a"] = [Retry("first", context={"code": 1}), Retry("second"), Published()]
    async with working(settings(database), script):
        event_id = await emit(store, "a", key="k")
        await state_is(store, event_id, "published")
    assert await rows(store, "select reason, error, context from outbox.attempts order by id") == [
        ("retry", "first", {"code": 1}),
        ("retry", "second", None),
    ]
    assert await rows(store, "select attempts, deferrals from outbox.receipts") == [(2, 0)]
    assert await value(store, COUNT_WAITING) == 0


async def test_attempts_run_out(database: str, store: Store, script: Script) -> None:
    """An event that fails every time is dead, with the last error in a sentence."""
    script.acts["a"] = [Retry("no answer")]
    async with working(settings(database, attempts_max=3), script):
        event_id = await emit(store, "a", key="k")
        await state_is(store, event_id, "dead:attempts_exhausted")
    assert script.calls == ["a", "a", "a"]
    assert await rows(store, "select attempts, error from outbox.receipts") == [
        (3, "gave up after 3 attempts: no answer")
    ]


async def test_a_retry_waits_as_long_as_the_handler_asks(database: str, store: Store, script: Script) -> None:
    """The API's own delay is longer than the backoff, and counts."""
    script.acts["a"] = [Retry("later", after_seconds=300)]
    async with working(settings(database), script):
        event_id = await emit(store, "a")
        await state_is(store, event_id, "waiting:retry")
        assert (
            await value(store, "select due_at > clock_timestamp() + interval '4 minutes' from outbox.waiting") is True
        )


async def test_a_dead_event_is_not_tried_again(database: str, store: Store, script: Script) -> None:
    """Its receipt says why, in a word and in a sentence."""
    script.acts["a"] = [Dead("the variant was deleted", "variant_missing")]
    async with working(settings(database), script):
        event_id = await emit(store, "a")
        await state_is(store, event_id, "dead:variant_missing")
    assert script.calls == ["a"]
    assert await value(store, "select error from outbox.receipts") == "the variant was deleted"


async def test_a_short_deferral_writes_nothing(database: str, store: Store, script: Script) -> None:
    """It stays in memory; only the receipt tells of it afterwards."""
    script.acts["a"] = [Defer(0.05, Reason.PROCESSING), Defer(0.05, Reason.PROCESSING), Published()]
    async with working(settings(database), script):
        event_id = await emit(store, "a", key="k")
        await state_is(store, event_id, "published")
    assert await rows(store, "select attempts, deferrals from outbox.receipts") == [(0, 2)]
    [(inserted, attempts)] = await rows(
        store,
        "select (select count(*) from outbox.attempts), "
        "(select n_tup_ins from pg_stat_user_tables where relid = 'outbox.waiting'::regclass)",
    )
    assert (inserted, attempts) == (0, 0)


async def test_a_long_deferral_is_a_waiting_row(database: str, store: Store, script: Script) -> None:
    """It survives the relay, costs no attempt and is no failure."""
    script.acts["a"] = [Defer(300, Reason.PROCESSING)]
    async with working(settings(database), script):
        event_id = await emit(store, "a", key="k")
        await state_is(store, event_id, "waiting:processing")
    assert await rows(store, "select attempts, deferrals, error from outbox.waiting") == [(0, 1, None)]
    assert await value(store, "select count(*) from outbox.attempts") == 0


async def test_a_long_deferral_comes_back_in_time(database: str, store: Store, script: Script) -> None:
    """Its steps come with it."""

    async def begin(event: Event, ledger: Ledger) -> Outcome:
        await ledger.done("container", {"id": "7"})
        return Defer(0.3, Reason.PROCESSING)

    script.acts["a"] = [begin, Published()]
    async with working(settings(database, short_deferral_seconds=0), script):
        event_id = await emit(store, "a", key="k")
        await state_is(store, event_id, "published")
    assert script.handled[1][1].answer("container") == {"id": "7"}
    assert script.handled[1][1].deferrals == 1


async def test_a_deferral_with_something_to_tell_has_its_row(database: str, store: Store, script: Script) -> None:
    """However short, an error is kept."""
    script.acts["a"] = [Defer(0.01, Reason.MISSING, "the variant is not visible", {"replica": True}), Published()]
    async with working(settings(database), script):
        event_id = await emit(store, "a")
        await state_is(store, event_id, "published")
    assert await rows(store, "select reason, error, context from outbox.attempts") == [
        ("missing", "the variant is not visible", {"replica": True})
    ]


async def test_a_hold_pauses_its_key_and_no_other(database: str, store: Store, script: Script) -> None:
    """Other events of the key wait without being tried, other keys flow on, and all go on when it ends."""
    script.acts["a"] = [Hold(3600, "rate_limited", "quota used up"), Published()]
    async with working(settings(database), script):
        held = await emit(store, "a", key="k")
        await state_is(store, held, "waiting:rate_limited")
        behind = await emit(store, "b", key="k")
        elsewhere = await emit(store, "c", key="l")
        await state_is(store, elsewhere, "published")
        await state_is(store, behind, "waiting:held")
        assert script.calls == ["a", "c"]
        await end_waits(store)
        await state_is(store, held, "published")
        await state_is(store, behind, "published")
        assert await value(
            store, "select bool_and(r.settled_at >= h.held_until) from outbox.receipts as r, outbox.holds as h "
            "where r.event_id = any (%s)", [[held, behind]],
        ) is True  # fmt: skip
    assert await rows(store, "select attempts, deferrals from outbox.receipts where event_id = %s", [held]) == [(0, 1)]


async def test_a_hold_on_the_app_pauses_every_key(database: str, store: Store, script: Script) -> None:
    """What limits the app limits all accounts; an operator's release lets all go on at once."""
    script.acts["a"] = [Hold(math.inf, "rate_limited", "app quota used up", scope="app"), Published()]
    async with working(settings(database), script):
        held = await emit(store, "a", key="k")
        await state_is(store, held, "waiting:rate_limited")
        others = [await emit(store, "b", key="l"), await emit(store, "c")]
        for event_id in others:
            await state_is(store, event_id, "waiting:held")
        assert script.calls == ["a"]
        await store.execute("select outbox.release(null)")
        for event_id in (held, *others):
            await state_is(store, event_id, "published")


async def test_handlers_that_hold_the_app_at_once_all_wait(database: str, store: Store, script: Script) -> None:
    """Many accounts that meet the app's limit in one moment are one hold and no outage."""
    gate = Gate(outcome=Hold(300, "rate_limited", "app quota used up", scope="app"))
    names = [f"e{number}" for number in range(10)]
    script.acts = {name: [gate] for name in names}
    async with working(settings(database), script):
        events = [await emit(store, name, key=name) for name in names]

        async def all_called() -> bool:
            return len(script.calls) == len(names)

        await eventually(all_called)
        gate.opened.set()
        for event_id in events:
            await state_is(store, event_id, "waiting:rate_limited")
    assert await value(store, "select count(*) from outbox.relays") == 1


async def test_a_hold_stands_before_it_is_durable(database: str, store: Store, script: Script) -> None:
    """A look at the database that does not show the hold yet does not end it."""
    script.acts["a"] = [Hold(300, "token", "the token was revoked")]
    async with working(settings(database), script), await connect(database, application_name="outbox-test") as locker:
        script.acts["looked"] = [Retry("once", after_seconds=3600), Published()]
        await state_is(store, await emit(store, "looked", key="l"), "waiting:retry")
        async with locker.transaction():
            await locker.execute("lock table outbox.holds in exclusive mode")
            await emit(store, "a", key="k")
            await eventually(partial(value, store, SETTLER_WAITS))
            await store.execute("update outbox.waiting set due_at = clock_timestamp()")
            await store.execute("notify outbox, 'waiting'")
            await eventually(partial(was_called, script, "looked", times=2))
            await emit(store, "b", key="k")
            await emit(store, "c", key="m")
            await eventually(partial(was_called, script, "c"))
            assert "b" not in script.calls


async def was_called(script: Script, name: str, *, times: int = 1) -> bool:
    """Whether the handler was given an event so many times."""
    return script.calls.count(name) >= times


async def test_an_unknown_pauses_its_key_and_comes_back_with_its_steps(
    database: str, store: Store, script: Script
) -> None:
    """Nothing of the account is published before it is known what became of the call."""
    script.acts["a"] = [partial(publish, outcome=Unknown("no answer to publish", 3600.0)), reconcile]
    async with working(settings(database), script):
        unknown = await emit(store, "a", key="k")
        await state_is(store, unknown, "waiting:unknown")
        behind = await emit(store, "b", key="k")
        await state_is(store, behind, "waiting:held")
        assert script.calls == ["a"]
        await end_waits(store)
        await state_is(store, unknown, "published")
        await state_is(store, behind, "published")
    assert script.calls == ["a", "a", "b"]
    assert [step.state for step in script.handled[1][1].steps] == [StepState.INTENT, StepState.DONE]
    assert await rows(store, "select reason, error from outbox.attempts") == [("unknown", "no answer to publish")]


async def test_a_released_key_is_looked_at_before_anything_else_of_it(
    database: str, store: Store, script: Script
) -> None:
    """What a new token was waited for is asked at once, though its next look was an hour away."""
    outcome = Unknown("looking failed: error 190", 3600.0, hold_reason="token")
    script.acts["a"] = [partial(publish, outcome=outcome), reconcile]
    async with working(settings(database), script):
        unknown = await emit(store, "a", key="k")
        await state_is(store, unknown, "waiting:unknown")
        behind = await emit(store, "b", key="k")
        await state_is(store, behind, "waiting:held")
        assert await rows(store, "select key, reason from outbox.holds") == [("k", "token")]
        await store.execute("select outbox.release('k')")
        await state_is(store, unknown, "published")
        await state_is(store, behind, "published")
    assert script.calls == ["a", "a", "b"]


async def test_an_unknown_without_an_intent_is_looked_at_under_a_hold(
    database: str, store: Store, script: Script
) -> None:
    """It waits for nothing else before, not even for its own hold: as held it could expire, or be cancelled."""
    script.acts["a"] = [Unknown("no answer", 3600.0), Published()]
    async with working(settings(database), script):
        unknown = await emit(store, "a", key="k")
        await state_is(store, unknown, "waiting:unknown")
        await store.execute("update outbox.waiting set due_at = clock_timestamp()")
        await store.execute("notify outbox, 'waiting'")
        await state_is(store, unknown, "published")
        assert await value(store, "select held_until > clock_timestamp() from outbox.holds") is True
    assert script.calls == ["a", "a"]


async def test_an_unknown_without_an_intent_is_looked_at_although_an_earlier_one_waits(
    database: str, store: Store, script: Script
) -> None:
    """The earlier one of its sequence was committed later, and has failed since."""
    script.acts["a"] = [Unknown("no answer", 3600.0), Published()]
    script.acts["earlier"] = [Retry("later", after_seconds=3600)]
    async with working(settings(database), script):
        async with await connect(database, application_name="outbox-test") as late, late.transaction():
            earlier = await emit(late, "earlier", key="k", sequence="s")
            unknown = await emit(store, "a", key="k", sequence="s")
            await state_is(store, unknown, "waiting:unknown")
            await store.execute("delete from outbox.holds")
            await store.execute("notify outbox, 'holds'")
        await state_is(store, earlier, "waiting:retry")
        await store.execute("update outbox.waiting set due_at = clock_timestamp() where event_id = %s", [unknown])
        await store.execute("notify outbox, 'waiting'")
        await state_is(store, unknown, "published")
    assert script.calls == ["a", "earlier", "a"]


async def test_an_unknown_for_a_person_stays_and_its_key_goes_on(database: str, store: Store, script: Script) -> None:
    """Nobody guesses: it waits until somebody decides, and delays nobody else."""
    script.acts["a"] = [partial(publish, outcome=Unknown("two stories match", None))]
    async with working(settings(database), script):
        unknown = await emit(store, "a", key="k")
        await state_is(store, unknown, "waiting:unknown")
        await state_is(store, await emit(store, "b", key="k"), "published")
    assert script.calls == ["a", "b"]
    assert await value(store, "select due_at = 'infinity' from outbox.waiting") is True


async def test_a_handler_that_raises_is_retried(database: str, store: Store, script: Script) -> None:
    """One event suffers, not the relay, and no secret of the exception is kept."""

    async def fail(event: Event, ledger: Ledger) -> Outcome:
        raise RuntimeError("GET https://graph.example/?access_token=EAAsesame failed")

    script.acts["a"] = [fail, Published()]
    async with working(settings(database), script):
        await state_is(store, await emit(store, "a"), "published")
    error = await value(store, "select error from outbox.attempts")
    assert error.startswith("the handler raised RuntimeError: GET ")
    assert "sesame" not in error
    assert await value(store, "select count(*) from outbox.relays") == 1


async def test_a_handler_that_raises_after_an_intent_is_unknown(database: str, store: Store, script: Script) -> None:
    """The call may have gone through: it is reconciled, not repeated."""
    script.acts["a"] = [partial(publish, outcome=RuntimeError("broken pipe")), reconcile]
    async with working(settings(database), script):
        await state_is(store, await emit(store, "a", key="k"), "published")
    assert await value(store, "select reason from outbox.attempts") == "unknown"


async def test_what_went_live_is_published_when_its_handler_fails_afterwards(
    database: str, store: Store, script: Script
) -> None:
    """Its call was answered: it is not dead for what came later, and says what that was."""

    async def read_back(event: Event, ledger: Ledger) -> Outcome:
        if not ledger.steps:
            await ledger.intent("publish", fingerprint="f", detail={}, call_seconds=1)
            await ledger.done("publish", {"remote_id": "178"})
        raise RuntimeError("can't be read back")

    script.acts["a"] = [read_back]
    async with working(settings(database), script):
        await state_is(store, await emit(store, "a"), "published")
    assert await rows(store, "select result, error from outbox.receipts") == [
        ({"remote_id": "178"}, "gave up after 3 attempts: the handler raised RuntimeError: can't be read back")
    ]


async def test_a_handler_that_takes_too_long_is_ended(database: str, store: Store, script: Script) -> None:
    """It is tried again, and the sentence says how long it had."""
    script.acts["a"] = [Gate(), Published()]
    async with working(settings(database, handler_seconds=0.2), script):
        await state_is(store, await emit(store, "a"), "published")
    assert await value(store, "select error from outbox.attempts") == "the handler took longer than 0.2 s"


async def test_a_handlers_own_time_out_is_not_taken_for_ours(database: str, store: Store, script: Script) -> None:
    """A call inside the handler that timed out is what the handler raised."""

    async def time_out(event: Event, ledger: Ledger) -> Outcome:
        raise TimeoutError("the media server did not answer")

    script.acts["a"] = [time_out, Published()]
    async with working(settings(database), script):
        await state_is(store, await emit(store, "a"), "published")
    assert "the media server did not answer" in await value(store, "select error from outbox.attempts")


async def test_a_handler_that_gives_up_on_its_step_goes_on_with_the_next(
    database: str, store: Store, script: Script
) -> None:
    """The one it did not wait for is written even so: a second one in its place ended the relay, again and again."""

    async def be_impatient(event: Event, ledger: Ledger) -> Outcome:
        with anyio.move_on_after(0):
            await ledger.intent("publish", fingerprint="f", detail={}, call_seconds=1)
        assert ledger.open_intent() is not None
        await ledger.refused("publish", {"error": "not called"})
        return Published()

    script.acts["a"] = [be_impatient]
    async with working(settings(database), script):
        await state_is(store, await emit(store, "a"), "published")
    assert await rows(store, "select position, state from outbox.steps order by position") == [
        (1, "intent"),
        (2, "refused"),
    ]
    assert await value(store, "select count(*) from outbox.relays") == 1


class Mute:
    """An object of a handler's that can't be told."""

    def __str__(self) -> str:
        raise KeyError("id")


@pytest.mark.parametrize(
    "outcome",
    [
        None,
        Published({"id": object()}),
        Published({"id": Mute()}),
        Published({"id": "\0"}),
        Dead("found \0"),
        Retry("found \0"),
        Retry("odd", context={"id": "\0"}),
        Defer(math.nan, Reason.PROCESSING),
        Defer(1e300, Reason.PROCESSING),
        Defer(10**5000, Reason.PROCESSING),
        Defer("soon", Reason.PROCESSING),  # type: ignore[arg-type]
        Retry(None),  # type: ignore[arg-type]
        Retry("odd", context=ENDLESS),
        Published(ENDLESS),
    ],
    ids=[
        *(
            "none",
            "object",
            "mute",
            "nul-in-result",
            "nul-in-dead",
            "nul-in-retry",
            "nul-in-context",
            "nan",
            "century",
            "endless",
        ),
        *("text-for-seconds", "no-error", "endless-context", "endless-result"),
    ],
)
async def test_an_outcome_that_cannot_be_written_harms_only_its_event(
    database: str, store: Store, script: Script, outcome: Outcome
) -> None:
    """Another's handler that returns nonsense does not bring the relay down, again and again."""
    script.acts["a"] = [outcome]
    async with working(settings(database, short_deferral_seconds=0), script):
        await emit(store, "a", key="k")
        await state_is(store, await emit(store, "b", key="l"), "published")
        await state_is(store, await emit(store, "c", key="m"), "published")
        assert await value(store, "select count(*) from outbox.relays") == 1


async def test_a_hold_that_cannot_be_written_holds_nothing(database: str, store: Store, script: Script) -> None:
    """The relay alone had known of it: what was parked for it was due at once, and parked again, for as long."""
    script.acts["a"] = [Hold(3600, "account", "odd", context=ENDLESS)]
    async with working(settings(database), script):
        await state_is(store, await emit(store, "a", key="k"), "dead")
        await state_is(store, await emit(store, "b", key="k"), "published")


async def test_a_step_that_postgresql_refuses_harms_only_its_event(database: str, store: Store, script: Script) -> None:
    """An id that is too long for an index: the handler hears of it, and its open intent is not taken for a failure."""

    async def go_live(event: Event, ledger: Ledger) -> Outcome:
        await ledger.intent("publish", fingerprint="f", detail={}, call_seconds=1)
        await ledger.done("publish", {"remote_id": "".join(map(chr, range(0x4E00, 0x6E00)))})
        return Published()

    script.acts["a"] = [go_live, Unknown("asked a person", None)]
    async with working(settings(database), script):
        event_id = await emit(store, "a", key="k")
        await state_is(store, await emit(store, "b", key="l"), "published")
        await state_is(store, event_id, "waiting:unknown")
        await eventually(lambda: value(store, "select due_at = 'infinity' from outbox.waiting"))
        assert await value(store, "select count(*) from outbox.relays") == 1


async def test_a_call_that_no_lease_outlives_harms_only_its_event(database: str, store: Store, script: Script) -> None:
    """Its intent is refused, and the event is dead in the end; the relay goes on."""
    reached = []

    async def call(event: Event, ledger: Ledger) -> Outcome:
        await ledger.intent("publish", fingerprint="f", detail={}, call_seconds=60)
        reached.append(event.id)
        return Published()

    script.acts["a"] = [call]
    async with working(settings(database), script):
        event_id = await emit(store, "a", key="k")
        await state_is(store, event_id, "dead")
        await state_is(store, await emit(store, "b", key="k"), "published")
        assert await value(store, "select count(*) from outbox.relays") == 1
    assert reached == []
    error = await value(store, "select error from outbox.receipts where event_id = %s", [event_id])
    assert "can't outlive a call of 60 s: raise OUTBOX_LEASE_SECONDS" in error


async def test_a_handler_that_cancels_itself_costs_no_worker(database: str, store: Store, script: Script) -> None:
    """A cancellation that the relay did not ask for is what the handler raised."""

    async def cancel(event: Event, ledger: Ledger) -> Outcome:
        raise asyncio.CancelledError

    script.acts["a"] = [cancel, Published()]
    async with working(settings(database, concurrency=1), script):
        first = await emit(store, "a", key="k")
        await state_is(store, await emit(store, "b"), "published")
        await state_is(store, first, "published")


async def test_a_step_that_cannot_be_written_harms_only_its_event(database: str, store: Store, script: Script) -> None:
    """A handler hears that its step is no JSON; the relay goes on."""

    async def write(event: Event, ledger: Ledger) -> Outcome:
        await ledger.done("container", {"id": object()})
        return Published()

    script.acts["a"] = [write]
    async with working(settings(database), script):
        await emit(store, "a", key="k")
        await state_is(store, await emit(store, "b", key="l"), "published")
        assert await value(store, "select count(*) from outbox.relays") == 1


async def test_an_event_of_a_type_without_a_handler_is_dead(database: str, store: Store, script: Script) -> None:
    """The sentence says what was found and which types are known."""
    async with working(settings(database), script):
        await store.execute("select outbox.emit('variant.craeted')")
        await all_settled(store, 1)
    assert await rows(store, "select outcome, reason, error from outbox.receipts") == [
        ("dead", "unknown_type", "no handler for events of type 'variant.craeted': expected one of t")
    ]


async def test_an_event_starts_at_its_time(database: str, store: Store, script: Script) -> None:
    """Not before, and sooner after it than a relay looks by itself."""
    async with working(settings(database), script):
        event_id = await emit(store, "a", publish_in=0.7)
        await state_is(store, event_id, "published")
    late = await value(
        store,
        "select extract(epoch from r.dispatched_at - e.publish_at)::float8 "
        "from outbox.receipts as r join outbox.events as e on e.id = r.event_id",
    )
    assert -0.005 <= late < PROMPT_SECONDS


async def test_an_event_expires_at_its_deadline(database: str, store: Store, script: Script) -> None:
    """One that is found too late is not begun."""
    event_id = await emit(store, "a", expires_in=-1)
    async with working(settings(database), script):
        await state_is(store, event_id, "expired")
    assert script.calls == []


async def test_a_waiting_event_expires_at_its_deadline(database: str, store: Store, script: Script) -> None:
    """It does not wait for a retry that would come after it."""
    script.acts["a"] = [Retry("later", after_seconds=7200)]
    due_at_deadline = "select due_at = expires_at from outbox.waiting join outbox.events on id = event_id"
    async with working(settings(database), script):
        event_id = await emit(store, "a", expires_in=3600)
        await state_is(store, event_id, "waiting:retry")
        assert await value(store, due_at_deadline) is True
        await let_expire(store, event_id)
        await state_is(store, event_id, "expired")
    assert script.calls == ["a"]


async def test_an_unknown_event_does_not_expire(database: str, store: Store, script: Script) -> None:
    """What may be live is seen to its end, after the deadline too."""
    script.acts["a"] = [partial(publish, outcome=Unknown("no answer", 7200.0)), reconcile]
    async with working(settings(database), script):
        event_id = await emit(store, "a", key="k", expires_in=3600)
        await state_is(store, event_id, "waiting:unknown")
        await let_expire(store, event_id)
        await state_is(store, event_id, "published")


async def test_a_waiting_event_is_cancelled_at_once(database: str, store: Store, script: Script) -> None:
    """Nobody waits for its time to come."""
    script.acts["a"] = [Retry("later", after_seconds=300)]
    async with working(settings(database), script):
        event_id = await emit(store, "a", key="k")
        await state_is(store, event_id, "waiting:retry")
        await store.execute("select outbox.cancel(%s)", [event_id])
        await state_is(store, event_id, "cancelled")
    assert script.calls == ["a"]
    assert await value(store, COUNT_WAITING) == 0


async def test_an_event_that_is_cancelled_before_it_waits_does_not_wait_for_its_time(
    database: str, store: Store, script: Script
) -> None:
    """In the transaction that emitted it, and while its handler was about to put it off."""
    gate = Gate(outcome=Defer(3600, Reason.PROCESSING))
    script.acts["b"] = [gate]
    async with working(settings(database), script):
        async with store.transaction():
            scheduled = await emit(store, "a", publish_in=86_400)
            await store.execute("select outbox.cancel(%s)", [scheduled])
        put_off = await emit(store, "b")
        await gate.entered.wait()
        await store.execute("select outbox.cancel(%s)", [put_off])
        gate.opened.set()
        await state_is(store, scheduled, "cancelled")
        await state_is(store, put_off, "cancelled")
    assert script.calls == ["b"]


async def test_an_event_that_is_cancelled_before_its_intent_is_not_begun(
    database: str, store: Store, script: Script
) -> None:
    """The handler is stopped where the irreversible call would begin."""
    gate = Gate()

    async def wait_then_publish(event: Event, ledger: Ledger) -> Outcome:
        await gate(event, ledger)
        return await publish(event, ledger, outcome=Published())

    script.acts["a"] = [wait_then_publish]
    async with working(settings(database), script):
        event_id = await emit(store, "a", key="k")
        await gate.entered.wait()
        await store.execute("select outbox.cancel(%s)", [event_id])
        gate.opened.set()
        await state_is(store, event_id, "cancelled")
    assert await value(store, "select count(*) from outbox.steps") == 0


async def test_an_intent_after_the_deadline_expires_the_event(database: str, store: Store, script: Script) -> None:
    """The handler is stopped where the irreversible call would begin too late."""
    gate = Gate()

    async def wait_then_publish(event: Event, ledger: Ledger) -> Outcome:
        await gate(event, ledger)
        return await publish(event, ledger, outcome=Published())

    script.acts["a"] = [wait_then_publish]
    async with working(settings(database), script):
        event_id = await emit(store, "a", expires_in=3600)
        await gate.entered.wait()
        await let_expire(store, event_id)
        gate.opened.set()
        await state_is(store, event_id, "expired")
    assert await value(store, "select count(*) from outbox.steps") == 0


async def test_an_intent_renews_a_lease_that_is_too_short(database: str, store: Store, script: Script) -> None:
    """A call that a fresh lease outlives is made, however old the lease was."""
    script.acts["a"] = [partial(publish, outcome=Published())]
    async with working(settings(database, lease_seconds=30), script):
        await store.execute("update outbox.relays set leased_until = clock_timestamp() + interval '0.5 seconds'")
        await state_is(store, await emit(store, "a"), "published")
    assert await value(store, "select count(*) from outbox.relays") == 1


async def test_a_sequence_stays_in_order_through_retries(database: str, store: Store, script: Script) -> None:
    """The second slide waits for the first one's retry; what has no sequence does not."""
    script.acts["s1"] = [Retry("no answer", after_seconds=3600), Published()]
    script.acts["s2"] = [Defer(0.05, Reason.PROCESSING), Published()]
    async with working(settings(database), script):
        slides = [await emit(store, f"s{number}", key="k", sequence="s") for number in (1, 2, 3)]
        await state_is(store, await emit(store, "free", key="k"), "published")
        await state_is(store, slides[0], "waiting:retry")
        slides.append(await emit(store, "s4", key="k", sequence="s"))
        await end_waits(store)
        for event_id in slides:
            await state_is(store, event_id, "published")
    assert [name for name in script.calls if name != "free"] == ["s1", "s1", "s2", "s2", "s3", "s4"]
    assert script.calls.index("free") < script.calls.index("s2")


async def test_a_sequence_goes_on_after_a_dead_event(database: str, store: Store, script: Script) -> None:
    """Dead is an end: those behind it are not lost with it."""
    script.acts["s1"] = [Retry("once", after_seconds=0.1), Dead("never")]
    async with working(settings(database), script):
        slides = [await emit(store, f"s{number}", key="k", sequence="s") for number in (1, 2)]
        await state_is(store, slides[0], "dead")
        await state_is(store, slides[1], "published")


async def test_a_replay_stands_at_the_end_of_its_sequence(database: str, store: Store, script: Script) -> None:
    """It is a new event: it goes behind all that was emitted before it, and so also behind what waits for a retry."""
    gate = Gate(outcome=Retry("once"))
    script.acts |= {"s1": [Dead("no"), Published()], "s2": [gate, Published()]}
    async with working(settings(database), script):
        first, second = [await emit(store, name, key="k", sequence="s") for name in ("s1", "s2")]
        await gate.entered.wait()
        await state_is(store, first, "dead")
        again = await value(store, "select outbox.replay(%s)", [first])
        gate.opened.set()
        await state_is(store, again, "published")
        await state_is(store, second, "published", seconds=0)
    assert script.calls == ["s1", "s2", "s2", "s1"]


async def test_one_event_of_a_key_is_in_flight(database: str, store: Store, script: Script) -> None:
    """Whatever the concurrency, an account sees one call at a time; without a key all run at once."""
    gate = Gate()
    script.acts["a"] = [gate]
    async with working(settings(database), script):
        events = [await emit(store, "a", key="k") for _ in range(3)]
        free = [await emit(store, "b") for _ in range(3)]
        for event_id in free:
            await state_is(store, event_id, "published")
        assert script.calls.count("a") == 1
        gate.opened.set()
        for event_id in events:
            await state_is(store, event_id, "published")


async def test_many_waiting_events_of_a_few_keys_delay_no_other_key(
    database: str, store: Store, script: Script
) -> None:
    """Accounts whose events all come back at once keep none from coming back, and go on in their order, many a look."""
    gate = Gate()
    script.acts["slow"] = [gate]
    await store.execute(
        "with e as ("
        "  select outbox.emit('t', '{\"name\": \"slow\"}', k.key) as id, k.key"
        "  from generate_series(1, 600), (values ('a'), ('b'), ('c'), ('d'), ('e')) as k (key)"
        ") insert into outbox.waiting (event_id, lane, key, reason, due_at, attempts, deferrals) "
        "select id, hashtextextended(key, 0) & 63, key, 'held', clock_timestamp(), 0, 1 from e"
    )
    script.acts["other"] = [Retry("once"), Published()]
    async with working(settings(database, gauge_seconds=60.0), script):
        await gate.entered.wait()
        await state_is(store, await emit(store, "other", key="l"), "published")
        gate.opened.set()
        await all_settled(store, 3001)
    # Of sessions that have ended: each look for more of a key is a scan of its own.
    scans = "select idx_scan from pg_stat_user_indexes where indexrelid = 'outbox.waiting_by_key'::regclass"
    assert await value(store, scans) <= 100
    handled: dict[str | None, list[EventId]] = defaultdict(list)
    for name, ledger in script.handled:
        if name == "slow":
            handled[ledger.event.key].append(ledger.event.id)
    assert len(handled) == 5
    assert all(event_ids == sorted(set(event_ids)) for event_ids in handled.values())
