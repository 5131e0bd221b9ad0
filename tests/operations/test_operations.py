"""What people do about events: find, replay, cancel, release."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import LiteralString

import pytest
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from outbox.errors import Refused
from outbox.event import EventId
from outbox.holds import release
from outbox.ledger import Step, StepState, may_be_live
from outbox.operations import (
    EventFilter,
    cancel,
    database_now,
    find_event,
    find_events,
)
from outbox.replay import replay
from tests.operations.histories import Histories

pytestmark = pytest.mark.anyio

Connection = AsyncConnection[TupleRow]

INTENT, DONE, REFUSED = StepState.INTENT, StepState.DONE, StepState.REFUSED


async def test_events_are_found_newest_first_and_page_by_page(connection: Connection, histories: Histories) -> None:
    """A page that continues before the last one's end neither repeats nor skips an event."""
    ids = [histories.emit() for _ in range(5)]
    first = await find_events(connection, EventFilter(), limit=3)
    second = await find_events(connection, EventFilter(), limit=3, before=first[-1].id)
    assert [event.id for event in first + second] == ids[::-1]


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (EventFilter(), {"new", "waits", "dead", "old", "done"}),
        (EventFilter(states=["dead"]), {"dead", "old"}),
        (EventFilter(states=["new", "waiting"]), {"new", "waits"}),
        (EventFilter(type="b"), {"done"}),
        (EventFilter(key="k"), {"dead"}),
        (EventFilter(reason="invalid_payload"), {"dead"}),
        (EventFilter(reason="retry"), {"waits"}),
        (EventFilter(states=["dead"], since=datetime.now(UTC) - timedelta(hours=1)), {"dead"}),
        (EventFilter(states=["published"], key="k"), set()),
    ],
)
async def test_a_filter_takes_what_fits_all_of_it(
    connection: Connection, histories: Histories, which: EventFilter, expected: set[str]
) -> None:
    """Each criterion narrows, and one that is not given does not."""
    long_ago = datetime.now(UTC) - timedelta(days=2)
    ids = {
        "new": histories.emit(),
        "waits": histories.emit(),
        "dead": histories.ended(key="k", reason="invalid_payload"),
        "old": histories.end(histories.emit(), settled_at=long_ago),
        "done": histories.ended("published", type="b"),
    }
    histories.wait(ids["waits"], "retry")
    found = {event.id for event in await find_events(connection, which, limit=10)}
    assert found == {ids[name] for name in expected}


async def test_an_event_that_waits_for_ever_is_found(connection: Connection, histories: Histories) -> None:
    """An infinite due_at, which Python has no value for, is None."""
    event_id = histories.emit(key="k", sequence="s")
    histories.wait(event_id, "parked")
    event = await find_event(connection, event_id)
    assert event is not None
    assert (event.state, event.reason, event.due_at) == ("waiting", "parked", None)


async def test_no_event_is_found_where_there_is_none(connection: Connection) -> None:
    """An unknown id is no error."""
    assert await find_event(connection, EventId(7)) is None


async def test_a_replay_carries_the_event_but_not_its_deadline(connection: Connection, histories: Histories) -> None:
    """Type, payload, key, sequence and headers are the same; it names what it replays."""
    deadline = await database_now(connection) + timedelta(seconds=60)
    event_id = histories.ended(
        "expired", payload={"n": 1}, key="k", sequence="s", headers={"h": "1"}, expires_at=deadline
    )
    replayed = await replay(connection, event_id)
    columns = "type, payload, key, sequence, headers, lane"
    query = sql.SQL("select {} from outbox.events where id = %s").format(sql.SQL(columns))
    rows = [histories.connection.execute(query, [each]).fetchone() for each in (event_id, replayed.replay_id)]
    assert rows[0] == rows[1]
    event = await find_event(connection, replayed.replay_id)
    assert event is not None
    assert (event.replay_of, event.expires_at, replayed.is_new) == (event_id, None, True)


async def test_replaying_twice_gives_the_same_replay(connection: Connection, histories: Histories) -> None:
    """The second call writes nothing and says so."""
    event_id = histories.ended()
    first = await replay(connection, event_id)
    second = await replay(connection, event_id)
    assert (second.replay_id, second.is_new) == (first.replay_id, False)
    assert histories.count_events() == 2


async def test_a_dry_run_writes_nothing(connection: Connection, histories: Histories) -> None:
    """It decides as the real one and leaves no event."""
    event_id = histories.ended()
    assert (await replay(connection, event_id, dry_run=True)).is_new
    assert histories.count_events() == 1


@pytest.mark.parametrize("dry_run", [False, True])
async def test_what_may_be_live_is_refused(connection: Connection, histories: Histories, dry_run: bool) -> None:
    """A published event, and a dead one whose irreversible call was begun and never answered."""
    published, lost = histories.ended("published"), histories.emit()
    histories.step(lost, "publish", "intent")
    histories.end(lost)
    for event_id in (published, lost):
        with pytest.raises(Refused, match=rf"^event {event_id} ended as .* may be live: look at the account"):
            await replay(connection, event_id, dry_run=dry_run)
    assert histories.count_events() == 2


async def test_force_replays_what_may_be_live(connection: Connection, histories: Histories) -> None:
    """A person has looked."""
    assert (await replay(connection, histories.ended("published"), force=True)).is_new


async def test_what_is_verified_absent_is_replayed(connection: Connection, histories: Histories) -> None:
    """An intent that was refused afterwards, by an answer or by looking, is no obstacle."""
    event_id = histories.emit()
    histories.step(event_id, "publish", "intent")
    histories.step(event_id, "publish", "refused", {"verified": "absent"})
    histories.end(event_id)
    assert (await replay(connection, event_id)).is_new


@pytest.mark.parametrize(
    ("steps", "is_refused"),
    [
        ([], False),
        ([("container", DONE, {"handle": "1"})], False),
        ([("publish", INTENT, {})], True),
        ([("publish", INTENT, {}), ("publish", REFUSED, {})], False),
        (
            [("publish", INTENT, {}), ("publish", REFUSED, {}), ("publish", INTENT, {})],
            True,
        ),
        ([("publish", INTENT, {}), ("photo", REFUSED, {})], True),
        ([("publish", INTENT, {}), ("publish", DONE, {"remote_id": "17"})], True),
        ([("publish", DONE, {"remote_id": "17", "verified": "recovered"})], True),
        ([("publish", DONE, {"remote_id": None})], True),
        ([("reconcile", DONE, {"look": 1}), ("publish", REFUSED, {})], False),
    ],
)
async def test_steps_say_what_may_be_live_to_people_and_relays_alike(
    connection: Connection,
    histories: Histories,
    steps: list[tuple[str, StepState, dict[str, str | None]]],
    is_refused: bool,
) -> None:
    """What recovery found live has no intent; though it ended as expired, nobody publishes it once more unasked."""
    event_id = histories.emit()
    for name, state, detail in steps:
        histories.step(event_id, name, state, detail)
    histories.end(event_id, "expired")
    assert may_be_live([Step(i, name, state, detail) for i, (name, state, detail) in enumerate(steps)]) is is_refused
    if is_refused:
        with pytest.raises(Refused, match="ended as expired and may be live"):
            await replay(connection, event_id)
    else:
        assert (await replay(connection, event_id)).is_new


async def test_what_has_not_ended_is_not_replayed(connection: Connection, histories: Histories) -> None:
    """Two events for one intention could both go live."""
    with pytest.raises(Refused, match="has not ended: cancel it first, or wait"):
        await replay(connection, histories.emit(), force=True)


async def test_what_does_not_exist_is_refused(connection: Connection) -> None:
    """A sentence, for replaying and for cancelling."""
    with pytest.raises(Refused, match="event 7 does not exist"):
        await replay(connection, EventId(7))
    with pytest.raises(Refused, match="event 7 does not exist"):
        await cancel(connection, EventId(7))


async def test_cancelling_makes_a_waiting_event_due(connection: Connection, histories: Histories) -> None:
    """The relay ends it at once instead of when it would have been due; asking twice is no error."""
    event_id = histories.emit()
    histories.wait(event_id, "scheduled")
    await cancel(connection, event_id, reason="wrong picture")
    await cancel(connection, event_id, reason="again")
    event = await find_event(connection, event_id)
    assert event is not None
    assert event.due_at is not None
    assert event.due_at <= await database_now(connection)
    assert histories.fetch("select reason from outbox.cancellations") == [("wrong picture",)]


async def test_an_event_that_was_cancelled_before_it_waits_comes_back_soon(
    connection: Connection, histories: Histories
) -> None:
    """However long it was to wait; what may be live waits as it is told, and so does what nobody cancelled."""
    cancelled, live, other = [histories.emit() for _ in range(3)]
    histories.step(live, "publish", "intent")
    for event_id in (cancelled, live):
        await cancel(connection, event_id)
    for event_id in (cancelled, live, other):
        histories.wait(event_id, "scheduled")
    soon: LiteralString = "select event_id from outbox.waiting where due_at < clock_timestamp() + interval '1 hour'"
    assert histories.fetch(soon) == [(cancelled,)]
    histories.connection.execute("update outbox.waiting set reason = 'parked', due_at = 'infinity'")
    assert histories.fetch(soon) == [(cancelled,)]


async def test_what_has_ended_is_not_cancelled(connection: Connection, histories: Histories) -> None:
    """What is live can't be taken back."""
    with pytest.raises(Refused, match="has ended already: published"):
        await cancel(connection, histories.ended("published"))


async def test_releasing_a_key_lets_its_events_go_on(connection: Connection, histories: Histories) -> None:
    """Its hold is gone and its waiting events are due; another key's are not."""
    ids = {key: histories.emit(key=key) for key in ("a", "b")}
    for key, event_id in ids.items():
        histories.hold(key)
        histories.wait(event_id, "held")
    assert await release(connection, "a") == 1
    assert histories.fetch("select key from outbox.holds") == [("b",)]
    assert histories.fetch("select event_id from outbox.waiting where due_at < 'infinity'") == [(ids["a"],)]


async def test_releasing_the_app_lets_all_events_go_on(connection: Connection, histories: Histories) -> None:
    """Without a key it is the app's hold."""
    histories.hold("")
    histories.wait(histories.emit(key="a"), "held")
    assert await release(connection, None) == 1
    assert histories.fetch("select key from outbox.holds") == []
