"""`outbox prune`: what ended long ago is deleted; a dry run counts it."""

from __future__ import annotations

from tests.cli.calling import Outbox
from tests.operations.histories import Histories


def test_what_ended_long_ago_is_deleted_in_batches(outbox: Outbox, histories: Histories) -> None:
    """As many as a dry run has counted, 30 days by default."""
    for _ in range(5):
        histories.ended_long_ago()
    young = histories.ended()
    histories.pass_events()
    assert outbox("prune", "--older-than", "60d").lines == ["0 events are deleted"]
    dry = outbox("prune", "--dry-run", "--json")
    assert (dry.status, dry.objects, dry.err) == (0, [{"event_count": 5, "is_done": False}], "")
    assert outbox("prune", "--dry-run").lines == ["5 events would be deleted"]
    assert histories.count_events() == 6
    answer = outbox("prune", "--batch", 2, "--json")
    assert (answer.status, answer.objects, answer.err) == (0, [{"event_count": 5, "is_done": True}], "")
    assert histories.ids() == [young]


def test_a_retention_that_is_too_short_is_refused(outbox: Outbox, histories: Histories) -> None:
    """Status 1 and one sentence; nothing is deleted."""
    histories.ended_long_ago()
    histories.pass_events()
    for arguments in (["--older-than", "1d"], ["--older-than", "1h", "--dry-run"]):
        answer = outbox("prune", *arguments)
        assert answer.status == 1
        assert answer.sentence().startswith("expected a retention of 2 days at least, found ")
    assert histories.count_events() == 1
