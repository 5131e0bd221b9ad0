"""A person's word on what may be live: what is believed, and what is refused."""

from __future__ import annotations

from typing import LiteralString

import pytest
from anyio import create_task_group
from psycopg import AsyncConnection, errors
from psycopg.rows import TupleRow

from outbox.audit import find_operations
from outbox.errors import Refused
from outbox.event import EventId
from outbox.ledger import Step, StepState
from outbox.life import Resolved, load_life
from outbox.resolution import Resolution, find_unknown, load_resolutions, resolve
from tests.operations.histories import Histories
from tests.outbox.store import blocked

pytestmark = pytest.mark.anyio

Connection = AsyncConnection[TupleRow]


def unknown(histories: Histories, *, due_at: str = "infinity") -> EventId:
    """An event whose call has no known answer."""
    event_id = histories.emit(key="k")
    histories.step(event_id, "container", "done", {"handle": "1"})
    histories.step(event_id, "publish", "intent", {"handle": "1", "live_before": []})
    histories.step(event_id, "reconcile", "done", {"look": 1, "candidates": []})
    histories.wait(event_id, "unknown", due_at=due_at, error="a person has to look")
    return event_id


async def test_what_waits_for_a_person_is_listed_with_what_is_known(
    connection: Connection, histories: Histories
) -> None:
    """Oldest first; what the relay still looks for is another list."""
    first, second, third = unknown(histories), unknown(histories, due_at="2130-01-01Z"), unknown(histories)
    histories.wait(histories.emit(), "retry")
    found = await find_unknown(connection, for_a_person=True)
    assert [each.event_id for each in found] == [first, third]
    assert (found[0].position, found[0].name, found[0].evidence_count) == (2, "publish", 1)
    assert (found[0].detail, found[0].due_at) == ({"handle": "1", "live_before": []}, None)
    assert [each.event_id for each in await find_unknown(connection, after=first)] == [second, third]
    await resolve(connection, first, published=False)
    [decided, *_] = await find_unknown(connection)
    assert (decided.resolved_as_published, decided.resolved_by) == (False, connection.info.user)


async def test_a_decision_makes_the_event_due_and_is_told(connection: Connection, histories: Histories) -> None:
    """Of this intent, by whom and why; the relay is rung for."""
    event_id = unknown(histories)
    await connection.execute("listen outbox")
    await resolve(connection, event_id, published=True, remote_id="17", reason="seen in the app")
    assert [note.payload async for note in connection.notifies(timeout=60, stop_after=1)] == ["waiting"]
    assert histories.fetch("select due_at <= clock_timestamp() from outbox.waiting") == [(True,)]
    found = await load_resolutions(connection, [event_id])
    assert found == {event_id: Resolution(2, "publish", True, "17", "seen in the app", connection.info.user)}
    [row] = await find_operations(connection, operation="resolve")
    assert (row.event_id, row.reason, row.detail) == (
        event_id,
        "seen in the app",
        {"position": 2, "published": True, "remote_id": "17", "force": False},
    )
    moments = [each for each in (await load_life(connection, event_id)).moments if isinstance(each, Resolved)]
    assert [(each.published, each.remote_id, each.reason) for each in moments] == [(True, "17", "seen in the app")]


async def test_the_same_decision_twice_is_no_error_and_another_one_is(
    connection: Connection, histories: Histories
) -> None:
    """What the relay is about to act on is not taken back."""
    event_id = unknown(histories)
    for _ in range(2):
        await resolve(connection, event_id, published=False)
    for remote_id in (None, "1"):
        with pytest.raises(Refused, match=rf"^event {event_id} was resolved by \w+ as not published"):
            await resolve(connection, event_id, published=True, remote_id=remote_id)
    assert len(await find_operations(connection)) == 1


async def test_what_the_relay_still_looks_for_is_not_absent(connection: Connection, histories: Histories) -> None:
    """It may yet go live: only force says otherwise. That it is live may be said at any time."""
    event_id, live = unknown(histories, due_at="2130-01-01Z"), unknown(histories, due_at="2130-01-01Z")
    with pytest.raises(Refused, match=r"still looked for, next at 2130-01-01T00:00:00Z: .* wait, or use force"):
        await resolve(connection, event_id, published=False)
    await resolve(connection, event_id, published=False, force=True)
    await resolve(connection, live, published=True)
    assert set(await load_resolutions(connection, [event_id, live])) == {event_id, live}


async def test_there_must_be_something_to_resolve(connection: Connection, histories: Histories) -> None:
    """An event that waits as unknown, and of which no step says that it is live."""
    ended, new, retried, live = histories.ended(), histories.emit(), histories.emit(), unknown(histories)
    histories.wait(retried, "retry")
    histories.step(live, "publish", "done", {"remote_id": "17"})
    looked_at = histories.emit()
    histories.wait(looked_at, "unknown", due_at="2130-01-01Z")
    for event_id, why in (
        (EventId(99), "^event 99 does not exist"),
        (ended, "has ended already: dead"),
        (new, "has nothing to resolve: .* found one that is new or in flight"),
        (retried, "has nothing to resolve: .* found one that waits as retry"),
        (live, "has nothing to resolve: .* found one that is live, as its steps say"),
        (looked_at, "has nothing to resolve: .* found one that the relay is about to look at"),
    ):
        with pytest.raises(Refused, match=why):
            await resolve(connection, event_id, published=True)


async def test_an_id_that_another_event_published_is_refused(connection: Connection, histories: Histories) -> None:
    """Two events can't be one story."""
    event_id, other = unknown(histories), histories.emit()
    histories.step(other, "publish", "done", {"remote_id": "17"})
    with pytest.raises(Refused, match=rf"^event {other} has published 17 already: look at the account again"):
        await resolve(connection, event_id, published=True, remote_id="17")
    with pytest.raises(errors.CheckViolation, match="only_what_is_published_has_a_remote_id"):
        await resolve(connection, event_id, published=False, remote_id="18")


@pytest.mark.parametrize("steps", [[], [("container", "done"), ("publish", "intent"), ("publish", "refused")]])
async def test_what_waits_for_a_person_without_an_open_intent_is_decided(
    connection: Connection, histories: Histories, steps: list[tuple[str, str]]
) -> None:
    """Recovery has such events wait: the log may have lost the intent. The decision is as of the last step."""
    event_id = histories.emit(key="k")
    for name, state in steps:
        histories.step(event_id, name, state)
    histories.wait(event_id, "unknown")
    for _ in range(2):
        await resolve(connection, event_id, published=False, reason="not in the app")
    [decision] = (await load_resolutions(connection, [event_id])).values()
    assert (decision.position, decision.name, decision.published) == (len(steps), "publish", False)
    with pytest.raises(Refused, match=r"was resolved by .* as not published"):
        await resolve(connection, event_id, published=True)
    [listed] = await find_unknown(connection)
    assert listed.resolved_as_published is False
    histories.step(event_id, "publish", "refused")
    [listed] = await find_unknown(connection)
    assert listed.resolved_as_published is None


async def test_two_events_are_not_decided_to_be_one_post(connection: Connection, histories: Histories) -> None:
    """The first decision is no step before a relay acts on it; nor is the post that was found later."""
    first, second, third, found = (
        unknown(histories),
        unknown(histories),
        unknown(histories),
        histories.ended("published"),
    )
    await resolve(connection, first, published=True, remote_id="17")
    histories.find_post(found, "18")
    for event_id, other, remote_id in ((second, first, "17"), (third, found, "18")):
        with pytest.raises(Refused, match=rf"^event {other} has published {remote_id} already"):
            await resolve(connection, event_id, published=True, remote_id=remote_id)
    await resolve(connection, second, published=True)
    await resolve(connection, third, published=True)
    assert len(await find_operations(connection)) == 3


async def test_two_people_do_not_give_one_post_to_two_events_at_once(
    connection: Connection, histories: Histories, database: str
) -> None:
    """The second waits for the first one's end, and is refused."""
    first, second = unknown(histories), unknown(histories)
    decide: LiteralString = "select outbox.resolve(%s, true, '17')"
    histories.connection.execute("begin")
    histories.fetch(decide, first)
    async with await AsyncConnection.connect(database, autocommit=True) as late, create_task_group() as group:

        async def resolve_late() -> None:
            with pytest.raises(Refused, match=rf"^event {first} has published 17 already"):
                await resolve(late, second, published=True, remote_id="17")

        group.start_soon(resolve_late)
        await blocked(connection, late)
        histories.connection.execute("commit")


async def test_a_dry_run_decides_nothing(connection: Connection, histories: Histories) -> None:
    """It only tells whether it would be refused."""
    event_id = unknown(histories)
    await resolve(connection, event_id, published=True, dry_run=True)
    assert await load_resolutions(connection, [event_id]) == {}
    assert histories.fetch("select due_at = 'infinity' from outbox.waiting") == [(True,)]


async def test_no_decision_goes_by_a_relay_that_was_looking(connection: Connection, histories: Histories) -> None:
    """What it has wait for a person meanwhile comes back soon; once the decision is a step, it waits as it is told."""
    event_id, other = unknown(histories, due_at="2130-01-01Z"), unknown(histories)
    await resolve(connection, event_id, published=True)
    waits: LiteralString = (
        "update outbox.waiting set due_at = 'infinity' where event_id = %s returning due_at < 'infinity'"
    )
    assert histories.fetch(waits, event_id) == [(True,)]
    assert histories.fetch(waits, other) == [(False,)]
    histories.step(event_id, "publish", "done", {"remote_id": None})
    assert histories.fetch(waits, event_id) == [(False,)]


def step(position: int, state: StepState) -> Step:
    return Step(position, "publish", state, {})


@pytest.mark.parametrize(
    ("published", "steps", "applies"),
    [
        (False, [step(1, StepState.INTENT)], True),
        (False, [step(1, StepState.INTENT), step(2, StepState.REFUSED)], False),
        (False, [step(1, StepState.INTENT), step(2, StepState.REFUSED), step(3, StepState.INTENT)], False),
        (True, [step(1, StepState.INTENT), step(2, StepState.REFUSED), step(3, StepState.INTENT)], True),
        (True, [step(1, StepState.INTENT), step(2, StepState.DONE)], False),
        (False, [Step(1, "container", StepState.DONE, {})], True),
        (False, [Step(1, "container", StepState.DONE, {}), step(2, StepState.REFUSED)], False),
    ],
)
def test_a_decision_is_about_its_intent_unless_something_is_live(
    published: bool, steps: list[Step], applies: bool
) -> None:
    """That something is live holds whatever was found since."""
    assert Resolution(1, "publish", published, None, None, "me").applies_to(steps) is applies
