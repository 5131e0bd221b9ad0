"""`outbox stats`, `top` and `events --watch`: how it goes, once and live."""

from __future__ import annotations

import json
import signal

from outbox.statistics import Inserted, Rates, rates
from relay.cli.watching import seconds
from tests.cli.calling import Outbox, started, watch_top
from tests.operations.histories import Histories


def test_stats_tell_what_waits_what_ended_and_what_is_held(outbox: Outbox, histories: Histories) -> None:
    """By reason, and where the reason has a name in one row each."""
    histories.ended("published")
    histories.ended("dead", reason="rejected")
    histories.wait(histories.emit(key="k"), "retry", due_at="2130-01-01Z")
    histories.hold("k")
    histories.emit()
    answer = outbox("stats")
    assert answer.status == 0
    rows = {tuple(line.split("\t")[:3]) for line in answer.lines}
    assert rows == {
        ("relays", "working", "0"),
        ("lanes", "unowned", "64"),
        ("events", "new or in flight", "1"),
        ("waiting", "retry", "1"),
        ("published", "", "1"),
        ("dead", "rejected", "1"),
        ("not ended", "", "2"),
        ("holds", "in force", "1"),
    }
    [found] = outbox("stats", "--since", "1d", "--json").objects
    assert found["waiting"][0]["reason"] == "retry"
    assert (found["unowned_lanes"], found["backlog_count"]) == (64, 1)
    assert outbox("stats", "--since", "2130-01-01T00:00:00Z", "--json").objects[0]["endings"] == []


def test_rates_are_of_the_time_between_two_looks() -> None:
    """None where there is none, or where the counters began anew."""
    before = Inserted(10.0, 100, 50, 0)
    assert rates(before, Inserted(12.0, 300, 60, 4)) == Rates(100.0, 5.0, 2.0)
    assert rates(before, before) is None
    assert rates(before, Inserted(12.0, 1, 60, 4)) is None


def test_an_age_may_lie_ahead() -> None:
    """What is scheduled is owed later."""
    assert (seconds(None), seconds(90), seconds(-7200)) == ("", "90.0 s", "in 2 h")


def test_top_shows_it_live_until_it_is_interrupted(database: str, histories: Histories) -> None:
    """On a terminal of its own: the alternate screen, and back."""
    histories.wait(histories.emit(key="k"), "retry", due_at="2130-01-01Z")
    histories.hold("instagram:17")
    shown = watch_top(database, lambda text: text.count("emitted ") > 1 and "instagram:17" in text)
    for part in ("outbox  2", "lanes that nobody owns 64", "waits because", "retry", "holds (1)", "instagram:17"):
        assert part in shown
    assert "\x1b[?1049l" in shown  # the screen is given back
    assert "Traceback" not in shown


def test_watch_prints_each_event_again_when_it_changes(database: str, histories: Histories) -> None:
    """Newest last, and nothing twice."""
    first = histories.emit()
    with started("events", "--watch", "--json", OUTBOX_DSN=database) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["state"] == "new"
        histories.end(first, "published")
        changed = json.loads(process.stdout.readline())
        assert (changed["id"], changed["state"]) == (first, "published")
        second = histories.emit()
        assert json.loads(process.stdout.readline())["id"] == second
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, "", "")


def test_events_are_found_by_error_age_and_time(outbox: Outbox, histories: Histories) -> None:
    """Each narrows."""
    old = histories.backdate(histories.end(histories.emit(), error="there was No Answer"))
    young = histories.emit()
    assert [each["id"] for each in outbox("events", "--error", "no answer", "--json").objects] == [old]
    assert [each["id"] for each in outbox("events", "--older-than", "30d", "--json").objects] == [old]
    assert [each["id"] for each in outbox("events", "--since", "1h", "--json").objects] == [young, old]
    assert outbox("events", "--until", "1h", "--json").objects == []
