"""`outbox unknown list` and `resolve`: all that is known is shown, and a person decides."""

from __future__ import annotations

import pytest

from outbox.event import EventId
from tests.cli.calling import Outbox
from tests.operations.histories import Histories


def unknown(histories: Histories) -> EventId:
    event_id = histories.emit(key="k")
    histories.step(event_id, "publish", "intent", {"handle": "18001", "live_before": []})
    histories.step(event_id, "reconcile", "done", {"look": 1, "candidates": ["17901", "17902"]})
    histories.wait(event_id, "unknown", error="2 new stories fit")
    return event_id


def test_what_waits_for_a_person_is_listed(outbox: Outbox, histories: Histories) -> None:
    """With what to do about it."""
    event_id = unknown(histories)
    answer = outbox("unknown", "list")
    assert answer.lines[0].split("\t")[:2] == [str(event_id), "k"]
    assert answer.lines[0].endswith("a person\t1\t2 new stories fit")
    assert "outbox resolve ID --published MEDIA_ID, or --not-published" in answer.err
    [listed] = outbox("unknown", "list", "--all", "--json").objects
    assert (listed["event_id"], listed["detail"]["handle"], listed["due_at"]) == (event_id, "18001", None)


def test_an_empty_list_tells_of_what_the_relay_still_looks_for(outbox: Outbox, histories: Histories) -> None:
    """The alert counts those, too: whoever it woke is not left with nothing."""
    answer = outbox("unknown", "list")
    assert (answer.out, answer.err) == ("", "")
    looking = histories.emit()
    histories.step(looking, "publish", "intent")
    histories.wait(looking, "unknown", due_at="2130-01-01Z")
    answer = outbox("unknown", "list")
    assert answer.out == ""
    assert "those that the relay still looks for are listed with --all" in answer.err
    assert [each["event_id"] for each in outbox("unknown", "list", "--all", "--json").objects] == [looking]


def test_without_a_decision_the_evidence_is_shown(outbox: Outbox, histories: Histories) -> None:
    """And nothing is decided."""
    event_id = unknown(histories)
    answer = outbox("resolve", event_id)
    assert answer.status == 0
    assert '"candidates":["17901","17902"]' in answer.out
    assert "decide with --published MEDIA_ID or --not-published" in answer.err
    assert outbox("resolve", event_id, "--json").objects[0]["event"]["id"] == event_id
    assert histories.fetch("select count(*) from outbox.resolutions") == [(0,)]


@pytest.mark.parametrize(
    ("outcome", "said"),
    [("dead", "it is dead; outbox replay ID emits it once more"), ("published", "it is published")],
)
def test_where_nothing_is_to_be_decided_it_says_so(
    outbox: Outbox, histories: Histories, outcome: str, said: str
) -> None:
    """Of an event that has ended; nobody is sent to look at an account."""
    answer = outbox("resolve", histories.ended(outcome))
    assert (answer.status, answer.err) == (0, f"nothing is to be decided: the event has ended, {said}\n")


def test_an_event_whose_call_is_not_in_doubt_has_nothing_to_decide(outbox: Outbox, histories: Histories) -> None:
    """New, or waiting for something else; and while the relay looks, one waits for that."""
    event_id = histories.emit()
    assert "no call of the event is in doubt, it is new" in outbox("resolve", event_id).err
    histories.wait(event_id, "retry")
    assert "no call of the event is in doubt, it is waiting (retry)" in outbox("resolve", event_id).err
    looking = histories.emit()
    histories.step(looking, "publish", "intent")
    histories.wait(looking, "unknown", due_at="2130-01-01Z")
    assert "the relay still looks by itself" in outbox("resolve", looking).err


def test_a_decision_is_written_with_who_and_why(outbox: Outbox, histories: Histories) -> None:
    """With an id, with none, and that it is not live."""
    ids = [unknown(histories) for _ in range(3)]
    assert outbox("resolve", ids[0], "--published", "17", "--dry-run").lines == [
        f"{ids[0]} would be resolved as published as 17: the relay goes on from that"
    ]
    assert outbox("resolve", ids[0], "--published", "17", "--reason", "seen", "--json").objects == [
        {"event_id": ids[0], "published": True, "is_done": True}
    ]
    assert outbox("resolve", ids[1], "--published", "-").status == 0
    assert outbox("resolve", ids[2], "--not-published").lines == [
        f"{ids[2]} is resolved as not published: the relay goes on from that"
    ]
    assert histories.fetch("select event_id, published, remote_id, reason from outbox.resolutions order by 1") == [
        (ids[0], True, "17", "seen"),
        (ids[1], True, None, None),
        (ids[2], False, None, None),
    ]
    assert "resolved\tpublish 1: published as 17; by " in outbox("show", ids[0]).out


def test_a_refusal_is_one_sentence(outbox: Outbox, histories: Histories) -> None:
    """Status 1; bad usage is 2."""
    event_id = histories.ended()
    answer = outbox("resolve", event_id, "--not-published")
    assert (answer.status, answer.sentence()) == (1, f"event {event_id} has ended already: dead")
    answer = outbox("resolve", event_id, "--not-published", "--published", "1")
    assert (answer.status, "found both" in answer.sentence()) == (2, True)
    assert "expected a media id, or -" in outbox("resolve", event_id, "--published", "").sentence()
