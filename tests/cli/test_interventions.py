"""`outbox replay`, `cancel` and `release` report each event, and fail where one was refused."""

from __future__ import annotations

import pytest

from relay.cli import BAD_USAGE
from relay.cli.consent import UNASKED_MAX
from tests.cli.calling import Outbox
from tests.operations.histories import Histories


def test_replay_prints_the_new_id(outbox: Outbox, histories: Histories) -> None:
    """Once more, it prints the same one."""
    event_id = histories.ended()
    replay_id = event_id + 1
    assert outbox("replay", event_id).lines == [f"{event_id} is replayed as {replay_id}"]
    assert outbox("replay", event_id).lines == [f"{event_id} was replayed before, as {replay_id}"]
    assert histories.count_events() == 2


def test_replay_has_one_json_shape(outbox: Outbox, histories: Histories) -> None:
    """An object for each event, whatever became of it."""
    dead, live = histories.ended(), histories.ended("published")
    answer = outbox("replay", dead, live, dead, "--json")
    assert answer.status == 1
    assert answer.objects == [
        {"event_id": dead, "outcome": "replayed", "replay_id": live + 1, "error": None},
        {
            "event_id": live,
            "outcome": "refused",
            "replay_id": None,
            "error": f"event {live} ended as published and may be live: look at the account, then replay it with force",
        },
    ]
    assert answer.err == "outbox: 1 of 2 events was refused\n"


def test_what_may_be_live_needs_force(outbox: Outbox, histories: Histories) -> None:
    """A published event is refused with status 1, and replayed with --force."""
    event_id = histories.ended("published")
    refused = outbox("replay", event_id)
    assert refused.status == 1
    assert "may be live" in refused.out
    assert histories.count_events() == 1
    assert outbox("replay", event_id, "--force").status == 0


def test_what_was_verified_absent_needs_no_force(outbox: Outbox, histories: Histories) -> None:
    """The refusal after the intent is the proof."""
    event_id = histories.emit()
    histories.step(event_id, "publish", "intent")
    histories.step(event_id, "publish", "refused")
    histories.end(event_id)
    assert outbox("replay", event_id).status == 0


@pytest.mark.parametrize("arguments", [["1"], ["--state", "dead"]])
def test_a_dry_run_replays_nothing(outbox: Outbox, histories: Histories, arguments: list[str]) -> None:
    """It says what would be done."""
    event_id = histories.ended()
    assert event_id == 1
    answer = outbox("replay", *arguments, "--dry-run")
    assert (answer.status, answer.lines) == (0, ["1 would be replayed"])
    assert histories.count_events() == 1


def test_replay_takes_a_filter(outbox: Outbox, histories: Histories) -> None:
    """Dead by default, oldest first, and what was replayed before is left out."""
    first, second = histories.ended(key="k"), histories.ended(key="k")
    histories.ended(key="other")
    histories.ended("expired", key="k")
    answer = outbox("replay", "--key", "k", "--type", "t", "--since", "1h", "--json")
    assert [each["event_id"] for each in answer.objects] == [first, second]
    again = outbox("replay", "--key", "k")
    assert (again.status, again.out, again.err) == (0, "", "no event fits the filter\n")
    assert len(outbox("replay", "--state", "expired", "--state", "cancelled").lines) == 1


def test_replay_goes_on_after_a_refusal(outbox: Outbox, histories: Histories) -> None:
    """Each event is a transaction of its own."""
    new, dead = histories.emit(), histories.ended()
    answer = outbox("replay", 99, new, dead)
    assert answer.status == 1
    assert answer.lines == [
        "99 is refused: event 99 does not exist",
        f"{new} is refused: event {new} has not ended: cancel it first, or wait",
        f"{dead} is replayed as {dead + 1}",
    ]
    assert answer.err == "outbox: 2 of 3 events were refused\n"


def test_many_events_are_not_replayed_unasked(outbox: Outbox, histories: Histories) -> None:
    """Without a terminal to ask on, --yes is needed; a dry run asks nothing."""
    for _ in range(UNASKED_MAX + 1):
        histories.ended()
    answer = outbox("replay", "--state", "dead")
    assert answer.status == BAD_USAGE
    assert answer.sentence().startswith("expected --yes to replay more than 20 events, found 21 without it")
    assert histories.count_events() == UNASKED_MAX + 1
    assert len(outbox("replay", "--state", "dead", "--dry-run").lines) == UNASKED_MAX + 1
    assert len(outbox("replay", "--state", "dead", "--yes").lines) == UNASKED_MAX + 1


def test_a_limit_takes_the_oldest(outbox: Outbox, histories: Histories) -> None:
    """And says that there may be more."""
    first, _ = histories.ended(), histories.ended()
    answer = outbox("replay", "--state", "dead", "--limit", 1)
    assert [line.split()[0] for line in answer.lines] == [str(first)]
    assert answer.err.startswith("only the first 1 are taken")


def test_cancel_asks_once_for_each(outbox: Outbox, histories: Histories) -> None:
    """Asking twice is no error; who asked and why is kept."""
    first, second = histories.emit(), histories.emit()
    for _ in range(2):
        answer = outbox("cancel", first, second, "--reason", "wrong picture", "--json")
        assert answer.status == 0
        assert [(each["event_id"], each["outcome"]) for each in answer.objects] == [
            (first, "cancellation_asked"),
            (second, "cancellation_asked"),
        ]
    assert histories.fetch("select event_id, reason from outbox.cancellations order by event_id") == [
        (first, "wrong picture"),
        (second, "wrong picture"),
    ]


def test_cancelling_what_has_ended_is_refused(outbox: Outbox, histories: Histories) -> None:
    """The others are cancelled all the same."""
    done, new = histories.ended("published"), histories.emit()
    answer = outbox("cancel", done, new)
    assert answer.status == 1
    assert answer.lines == [
        f"{done} is refused: event {done} has ended already: published",
        f"{new} will be cancelled: no irreversible call of it begins any more",
    ]


def test_release_counts_what_goes_on(outbox: Outbox, histories: Histories) -> None:
    """For a key, and for the app."""
    for _ in range(2):
        histories.wait(histories.emit(key="k"), "held")
    histories.hold("k")
    assert outbox("release", "k", "--dry-run").lines == ["2 events would go on"]
    assert histories.fetch("select count(*) from outbox.holds") == [(1,)]
    assert outbox("release", "k").lines == ["2 events go on"]
    assert outbox("release", "--app", "--json").objects == [
        {"key": None, "was_held": False, "released_count": 2, "is_done": True}
    ]
    assert histories.fetch("select count(*) from outbox.holds") == [(0,)]


def test_releasing_what_is_not_held_is_said(outbox: Outbox, histories: Histories) -> None:
    """A key that was mistyped at night would look like one that goes on."""
    histories.hold("k")
    answer = outbox("release", "K")
    assert (answer.status, answer.lines) == (0, ["0 events go on"])
    assert answer.err == "K is not held; outbox holds lists what is\n"
    assert outbox("release", "k", "--json").objects[0]["was_held"] is True


@pytest.mark.parametrize("command", ["cancel", "release", "prune"])
def test_many_events_are_not_changed_unasked(outbox: Outbox, histories: Histories, command: str) -> None:
    """Without a terminal to ask on, --yes is needed; a dry run asks nothing, and changes nothing."""
    ids = [histories.ended_long_ago(key="k") if command == "prune" else histories.emit(key="k") for _ in range(21)]
    histories.pass_events()
    if command == "release":
        for event_id in ids:
            histories.wait(event_id, "held")
    by_command: dict[str, list[object]] = {"cancel": [*ids], "release": ["k"], "prune": []}
    arguments = by_command[command]
    assert outbox(command, *arguments, "--dry-run").status == 0
    answer = outbox(command, *arguments)
    assert answer.status == BAD_USAGE
    assert answer.sentence().startswith(f"expected --yes to {command} more than 20 events, found 21 without it")
    assert histories.fetch("select count(*) from outbox.operations") == [(0,)]
    assert outbox(command, *arguments, "--yes", "--reason", "an incident").status == 0
    reasons = set(histories.fetch("select operation, reason from outbox.operations"))
    assert reasons == {(command, "an incident")}
