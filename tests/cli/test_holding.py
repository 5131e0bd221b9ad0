"""`outbox hold` and `holds`: what is held, until when, why and by whom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.calling import Outbox
from tests.operations.histories import Histories


def test_a_hold_is_listed_until_it_is_released(outbox: Outbox, histories: Histories) -> None:
    """For people, and as JSON."""
    held = outbox("hold", "k", "--reason", "wrong pictures")
    assert (held.status, held.lines, held.err) == (0, ["k is held until somebody releases it"], "")
    [line] = outbox("holds").lines
    assert line.split("\t")[:4] == ["key", "k", "until released", "wrong pictures"]
    [listed] = outbox("holds", "--json").objects
    assert set(listed) == {"scope", "key", "held_until", "reason", "held_by", "created_at"}
    assert (listed["scope"], listed["key"], listed["held_until"]) == ("key", "k", None)
    assert outbox("release", "k").status == 0
    assert outbox("holds").out == ""


@pytest.mark.parametrize("arguments", [("--for", "2h"), ("--until", "+2h")])
def test_a_hold_may_end_by_itself(outbox: Outbox, arguments: tuple[str, str]) -> None:
    """After a while, by the database's clock."""
    answer = outbox("hold", "--app", *arguments, "--reason", "maintenance", "--json")
    assert answer.status == 0
    [held] = answer.objects
    assert (held["scope"], held["key"], held["reason"]) == ("app", None, "maintenance")
    left = datetime.fromisoformat(held["held_until"]) - datetime.now(UTC)
    assert timedelta(minutes=119) < left <= timedelta(minutes=121)
    [listed] = outbox("holds", "--json").objects
    assert (listed["scope"], listed["key"], listed["held_until"]) == ("app", None, held["held_until"])


def test_a_hold_until_an_instant(outbox: Outbox) -> None:
    """Told in UTC."""
    answer = outbox("hold", "k", "--until", "2130-07-29T18:00:00+02:00", "--reason", "r")
    assert answer.lines == ["k is held until 2130-07-29T16:00:00.000Z"]


def test_a_shorter_hold_is_refused_in_a_sentence(outbox: Outbox) -> None:
    """Status 1, and what to do."""
    outbox("hold", "k", "--reason", "an incident")
    answer = outbox("hold", "k", "--for", "1h", "--reason", "shorter")
    assert answer.status == 1
    assert "until somebody releases it (an incident): release it first" in answer.sentence()
    answer = outbox("hold", "k", "--until", "2020-01-01T00:00:00Z", "--reason", "past")
    assert answer.status == 1
    assert answer.sentence().startswith("expected an instant in the future to hold until")
