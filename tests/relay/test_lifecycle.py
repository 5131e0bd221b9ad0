"""How a relay begins, ends, takes over and goes on after an outage."""

from __future__ import annotations

import gc
from functools import partial

import anyio
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr
from structlog.testing import capture_logs

from outbox.errors import DatabaseUnsuitable
from outbox.event import Event
from outbox.ledger import Ledger
from outbox.outcome import Defer, Outcome, Published, Reason, Retry
from relay import app
from relay.app import run, serve
from relay.health import PortTaken
from schema.errors import SchemaMissing
from tests.relay.running import (
    TERMINATE,
    Gate,
    Script,
    Store,
    all_settled,
    emit,
    end_waits,
    eventually,
    get,
    ready,
    relay,
    rows,
    settings,
    state_is,
    value,
    working,
)

pytestmark = pytest.mark.anyio

VANISHED = """
with gone as (
  insert into outbox.relays (name, version, leased_until)
  values ('vanished', '0', clock_timestamp() + interval '1.5 seconds') returning id
)
update outbox.lanes set relay_id = gone.id from gone
"""
LISTENERS = """
select count(*) from pg_stat_activity where application_name = 'outbox-listener' and datname = current_database()
"""
LANES_FREE = "select count(*) from outbox.lanes where relay_id is null"


async def test_a_relay_that_would_listen_to_another_database_does_not_start(database: str, script: Script) -> None:
    """It would pass for connected, and hear no bell."""
    elsewhere = SecretStr(make_conninfo(database, dbname="postgres"))
    with pytest.raises(DatabaseUnsuitable, match="expected OUTBOX_LISTEN_DSN to lead to the database of OUTBOX_DSN"):
        async with serve(settings(database, listen_dsn=elsewhere), anyio.Event(), factories=script.factories):
            pytest.fail("it started")


async def test_a_shutdown_lets_handlers_finish(database: str, store: Store, script: Script) -> None:
    """What is in flight when the relay is told to stop gets its receipt; what comes afterwards stays in the log."""
    gate = Gate()
    script.acts["a"] = [gate]
    stop = anyio.Event()
    with capture_logs() as logs:

        async def stopping() -> bool:
            return any(line["event"] == "relay.stopping" for line in logs)

        async with serve(settings(database), stop, factories=script.factories):
            in_flight = await emit(store, "a", key="k")
            await gate.entered.wait()
            stop.set()
            await eventually(stopping)
            later = await emit(store, "b")
            gate.opened.set()
    await state_is(store, in_flight, "published", seconds=0)
    await state_is(store, later, "new", seconds=0)
    async with working(settings(database), script):
        await state_is(store, later, "published")
    assert script.calls == ["a", "b"]


async def test_a_shutdown_lets_go_of_the_bell_while_handlers_finish(
    database: str, store: Store, script: Script
) -> None:
    """It is muted on the reader's connection, which may be lost where reading is broken off: handlers were, too."""
    gate = Gate()
    script.acts["a"] = [gate]
    stop = anyio.Event()

    async def is_deaf() -> bool:
        return await value(store, LISTENERS) == 0 and '"polling"' in (await get(f"{url}/readyz"))[1]

    async with serve(settings(database, shutdown_seconds=60), stop, factories=script.factories) as url:
        await eventually(lambda: ready(url))
        event_id = await emit(store, "a")
        await gate.entered.wait()
        stop.set()
        await eventually(is_deaf)
        gate.opened.set()
    await state_is(store, event_id, "published", seconds=0)


async def test_a_handler_that_does_not_finish_is_left_in_the_log(database: str, store: Store, script: Script) -> None:
    """The deadline of a shutdown ends it; the next relay begins it again, with its steps."""

    async def begin(event: Event, ledger: Ledger) -> Outcome:
        await ledger.done("container", {"id": "7"})
        await anyio.sleep_forever()
        return Published()

    script.acts["a"] = [begin, Published()]
    async with relay(settings(database, shutdown_seconds=0.2), script):
        event_id = await emit(store, "a", key="k")

        async def begun() -> bool:
            return bool(await value(store, "select count(*) from outbox.steps"))

        await eventually(begun)
    await state_is(store, event_id, "new", seconds=0)
    async with working(settings(database), script):
        await state_is(store, event_id, "published")
    assert script.handled[1][1].answer("container") == {"id": "7"}


async def test_a_shutdown_puts_back_what_is_paused(database: str, store: Store, script: Script) -> None:
    """A short deferral that a shutdown interrupts gets a waiting row, due at its time, counted once."""
    script.acts["a"] = [Defer(250, Reason.PROCESSING), Published()]
    async with relay(settings(database, short_deferral_seconds=300), script):
        event_id = await emit(store, "a", key="k")

        async def deferred() -> bool:
            return script.calls == ["a"]

        await eventually(deferred)
        await state_is(store, event_id, "new", seconds=0)
    await state_is(store, event_id, "waiting:processing", seconds=0)
    [(deferrals, seconds)] = await rows(
        store, "select deferrals, extract(epoch from due_at - clock_timestamp())::float8 from outbox.waiting"
    )
    assert deferrals == 1
    assert 150 < seconds < 250


async def test_a_pause_that_a_shutdown_interrupts_keeps_its_reason_and_is_one_wait(
    database: str, store: Store, script: Script
) -> None:
    """A person who releases the key finds it by its reason; the counter has one deferral, as the row has."""
    gate = Gate()
    script.acts |= {"paused": [Defer(250, Reason.RATE_LIMITED)], "gate": [gate]}
    stop = anyio.Event()
    async with serve(settings(database, short_deferral_seconds=300), stop, factories=script.factories) as url:
        event_id = await emit(store, "paused", key="k")
        await emit(store, "gate")
        with anyio.fail_after(60):
            await gate.entered.wait()
        await eventually(partial(was_called, script, "paused"))
        stop.set()
        await state_is(store, event_id, "waiting:rate_limited")
        _, text = await get(f"{url}/metrics")
        gate.opened.set()
    assert 'outbox_deferrals_total{reason="rate_limited",type="t"} 1.0' in text
    assert await value(store, "select deferrals from outbox.waiting") == 1


async def was_called(script: Script, name: str) -> bool:
    """Whether the handler was given an event."""
    return name in script.calls


async def test_a_short_deferral_is_counted_when_it_is_over(database: str, store: Store, script: Script) -> None:
    """No row tells of it."""
    script.acts["a"] = [Defer(0.01, Reason.MISSING), Published()]
    async with working(settings(database), script) as url:
        await state_is(store, await emit(store, "a"), "published")
        _, text = await get(f"{url}/metrics")
    assert 'outbox_deferrals_total{reason="missing",type="t"} 1.0' in text


async def test_a_shutdown_frees_the_lanes_and_saves_the_cursors(database: str, store: Store, script: Script) -> None:
    """The next relay begins at once, and does not look at what is settled."""
    async with working(settings(database, cursor_seconds=60), script):
        await state_is(store, await emit(store, "a"), "published")
    assert await value(store, LANES_FREE) == 64
    assert await value(store, "select count(*) from outbox.relays where retired_at is null") == 0
    assert await value(store, "select count(*) from outbox.cursors where seen::text = '1:1:'") == 0
    read_again = await value(
        store,
        "select count(*) from outbox.events as e join outbox.cursors as c on c.lane = e.lane "
        'where not pg_visible_in_snapshot(e.xid, c.seen) and not (pg_visible_in_snapshot(e.xid, c."window") '
        "and e.id <= c.position)",
    )
    assert read_again == 0


async def test_cursors_are_saved_while_it_runs(database: str, store: Store, script: Script) -> None:
    """After a crash not everything is read again."""
    async with working(settings(database, cursor_seconds=0.1), script):
        await state_is(store, await emit(store, "a"), "published")

        async def saved() -> bool:
            return bool(await value(store, "select bool_and(\"window\"::text <> '1:1:') from outbox.cursors"))

        await eventually(saved)


async def test_a_cursor_does_not_pass_an_event_in_hand(database: str, store: Store, script: Script) -> None:
    """A successor finds what was not settled, though later events were."""
    gate = Gate()
    script.acts["a"] = [gate, Published()]
    async with relay(settings(database, cursor_seconds=0.1, shutdown_seconds=0), script):
        in_hand = await emit(store, "a", key="k")
        await gate.entered.wait()
        for _ in range(3):
            await state_is(store, await emit(store, "b"), "published")
    await state_is(store, in_hand, "new", seconds=0)
    async with working(settings(database), script):
        await state_is(store, in_hand, "published")
    assert script.calls == ["a", "b", "b", "b", "a"]


async def test_a_restart_handles_nothing_that_has_a_receipt(database: str, store: Store, script: Script) -> None:
    """However old the cursor is, a receipt or a waiting row is not done again."""
    script.acts["w"] = [Retry("later", after_seconds=300)]
    async with working(settings(database), script):
        waiting = await emit(store, "w")
        for name in ("a", "b"):
            await state_is(store, await emit(store, name), "published")
        await state_is(store, waiting, "waiting:retry")
    await store.execute("update outbox.cursors set seen = '1:1:', \"window\" = '1:1:', position = 0")
    async with working(settings(database), script):
        await state_is(store, await emit(store, "c"), "published")
    assert sorted(script.calls) == ["a", "b", "c", "w"]


async def test_a_sequence_stays_in_order_through_a_restart(database: str, store: Store, script: Script) -> None:
    """The next relay knows which sequences have an event that waits."""
    script.acts["s1"] = [Retry("once", after_seconds=3600), Published()]
    async with working(settings(database), script):
        first = await emit(store, "s1", key="k", sequence="s")
        await state_is(store, first, "waiting:retry")
    second = await emit(store, "s2", key="k", sequence="s")
    async with working(settings(database), script):
        await state_is(store, second, "waiting:parked")
        await end_waits(store)
        await state_is(store, second, "published")
    assert script.calls == ["s1", "s1", "s2"]


async def test_the_lanes_of_a_relay_that_vanished_are_taken_when_its_lease_ends(
    database: str, store: Store, script: Script
) -> None:
    """Not before: until then it may be writing."""
    await store.execute(VANISHED)
    event_id = await emit(store, "a")
    async with relay(settings(database), script):
        await state_is(store, event_id, "published")
    assert await value(
        store,
        "select r.leased_until < s.settled_at from outbox.relays as r, outbox.receipts as s where r.name = 'vanished'",
    )


async def test_a_relay_that_was_retired_begins_again(database: str, store: Store, script: Script) -> None:
    """A zombie learns of it, drops what it has, and joins as a new incarnation."""
    retire = "update outbox.relays set retired_at = clock_timestamp() returning id"
    async with working(settings(database), script):
        retired = [relay_id for (relay_id,) in await rows(store, retire)]
        await state_is(store, await emit(store, "a"), "published")
        assert await value(store, "select relay_id from outbox.receipts") > max(retired)


async def test_a_zombies_handler_cannot_begin_an_irreversible_call(database: str, store: Store, script: Script) -> None:
    """The intent finds no fence; the event is handled by the next incarnation alone."""
    gate, intents = Gate(), []

    async def zombie(event: Event, ledger: Ledger) -> Outcome:
        await gate(event, ledger)
        await ledger.intent("publish", fingerprint="f", detail={}, call_seconds=0.1)
        intents.append("zombie")
        return Published()

    script.acts["a"] = [zombie, Published()]
    async with working(settings(database), script):
        event_id = await emit(store, "a", key="k")
        await gate.entered.wait()
        await store.execute("update outbox.relays set retired_at = clock_timestamp()")
        gate.opened.set()
        await state_is(store, event_id, "published")
    assert intents == []
    assert await value(store, "select count(*) from outbox.steps") == 0


async def test_it_goes_on_after_an_outage(database: str, store: Store, script: Script) -> None:
    """All its connections end, several times, under load: every event has one receipt, in the end."""
    names = [f"e{number}" for number in range(300)]
    async with working(settings(database), script):
        for number, name in enumerate(names):
            await emit(store, name, key=f"k{number % 7}", sequence="s" if number % 3 else None)
            if number % 100 == 99:
                await eventually(partial(value, store, TERMINATE))
        await all_settled(store, len(names))
    assert await rows(store, "select outcome, count(*) from outbox.receipts group by 1") == [("published", len(names))]
    assert set(script.calls) == set(names)


async def test_an_outage_does_not_disorder_a_sequence(database: str, store: Store, script: Script) -> None:
    """First calls stay in order, whatever is repeated."""
    async with working(settings(database), script):
        for number in range(60):
            await emit(store, f"{number:02}", key="k", sequence="s")
            if number % 20 == 10:
                await value(store, TERMINATE)
        await all_settled(store, 60)
    first_calls = list(dict.fromkeys(script.calls))
    assert first_calls == sorted(first_calls)


async def test_the_relays_role_is_enough(database: str, store: Store, script: Script) -> None:
    """Everything that a relay does, a member of outbox_relay may do."""
    script.acts["a"] = [Retry("once"), Published()]
    as_relay = make_conninfo(database, options="-c role=outbox_relay")
    async with working(settings(as_relay), script):
        await state_is(store, await emit(store, "a", key="k", sequence="s"), "published")
        await state_is(store, await emit(store, "b", publish_in=0.2), "published")
    assert await value(store, LANES_FREE) == 64


async def test_a_database_without_the_schema_is_refused(empty_database: str, script: Script) -> None:
    """The sentence says what to run."""
    with pytest.raises(SchemaMissing, match="run: outbox migrate"):
        async with serve(settings(empty_database), anyio.Event(), factories=script.factories):
            pytest.fail("it started")


async def test_a_read_only_database_is_refused(database: str, store: Store, script: Script) -> None:
    """The incident began with a worker on a replica."""
    name = sql.Identifier(str(conninfo_to_dict(database)["dbname"]))
    await store.execute(sql.SQL("alter database {} set default_transaction_read_only = on").format(name))
    with pytest.raises(DatabaseUnsuitable, match="point the DSN at the primary"):
        async with serve(settings(database), anyio.Event(), factories=script.factories):
            pytest.fail("it started")


async def test_a_server_that_is_not_there_is_told_as_it_is(script: Script) -> None:
    """`run` too raises the one sentence, not a group of errors."""
    with pytest.raises(DatabaseUnsuitable, match="can't connect to PostgreSQL at 127"):
        await run(settings("postgresql://relay@127.0.0.1:1/app"))


async def test_a_port_that_is_taken_is_told(database: str, script: Script) -> None:
    """The sentence names the address and the setting."""
    async with working(settings(database), script) as url:
        port = int(url.rsplit(":", 1)[1])
        with pytest.raises(PortTaken, match=rf":{port}, but it is in use: set OUTBOX_METRICS_PORT") as raised:
            async with serve(settings(database, metrics_port=port), anyio.Event(), factories=script.factories):
                pytest.fail("it started")
    assert "\n" not in str(raised.value)


async def test_reading_pauses_while_too_much_is_in_hand(database: str, store: Store, script: Script) -> None:
    """Memory has a bound, and what is beyond it is read later, in order."""
    gate = Gate()
    names = [f"e{number:02}" for number in range(30)]
    script.acts = {name: [gate] for name in names}
    for name in names:
        await emit(store, name)
    async with working(settings(database, in_hand_max=5, slice_count=2), script) as url:
        await gate.entered.wait()
        await eventually(lambda: has_read(url, 6))
        await emit(store, "rings")
        assert await has_read(url, 6)
        gate.opened.set()
        await all_settled(store, len(names) + 1)
    assert [name for name in script.calls if name != "rings"] == names


async def has_read(url: str, count: int) -> bool:
    """Whether the relay has read so many events of the log."""
    return f'outbox_events_emitted_total{{type="t"}} {count}.0' in (await get(f"{url}/metrics"))[1]


def test_what_is_in_hand_is_not_walked_again_and_again_for_garbage() -> None:
    """Thousands of events come and stay for a moment: a relay looks for cycles seldom."""
    threshold = gc.get_threshold()
    gc.collect()
    try:
        app.collect_seldom()
        before = [generation["collections"] for generation in gc.get_stats()]
        in_hand = [[number] for number in range(10_000)]
        assert [generation["collections"] for generation in gc.get_stats()] == before
        assert len(in_hand) == 10_000
    finally:
        gc.unfreeze()
        gc.set_threshold(*threshold)
