"""`outbox replay` with a filter, `replays`, and `cancel --replay`: at a rate, stopped, continued, taken back."""

from __future__ import annotations

import re
import signal
from typing import LiteralString

from tests.cli.calling import Outbox, started
from tests.operations.histories import Histories
from tests.processes import poll

CONNECTED: LiteralString = "select from pg_stat_activity where application_name like 'outbox %%@%%'"


def test_a_rate_spreads_a_replay(outbox: Outbox, histories: Histories) -> None:
    """It says when the last one is due; run twice it does nothing; it can be taken back."""
    for _ in range(3):
        histories.ended(key="k")
    answer = outbox("replay", "--key", "k", "--rate", "30/m", "--reason", "mended")
    assert (answer.status, len(answer.lines)) == (0, 3)
    assert re.fullmatch(r"replay \d+: 3 replayed; the last is due at 2\S+Z\n", answer.err)
    assert histories.fetch(
        "select count(*) from outbox.events where publish_at >= created_at + interval '3.9 seconds'"
    ) == [(1,)]
    assert outbox("replay", "--key", "k", "--rate", "30/m").err == "no event fits the filter\n"
    [listed] = outbox("replays", "--json").objects
    replay_id = listed["id"]
    assert (listed["emitted_count"], listed["reason"]) == (3, "mended")
    assert outbox("replays").lines[0].startswith(f"{replay_id}\t2")
    answer = outbox("cancel", "--replay", replay_id, "--dry-run")
    assert answer.lines == [f"replay {replay_id} emits no more; 3 events would be cancelled"]
    [done] = outbox("cancel", "--replay", replay_id, "--json").objects
    assert done == {"replay": replay_id, "cancelled_count": 3, "is_done": True}
    again = outbox("replay", "--resume", replay_id).sentence()
    assert again == f"replay {replay_id} was cancelled: begin another one"


def test_a_dry_run_of_a_filter_leaves_nothing(outbox: Outbox, histories: Histories) -> None:
    """No event, no replay, no audit."""
    histories.ended()
    assert outbox("replay", "--state", "dead", "--rate", "1/s", "--dry-run").lines == ["1 would be replayed"]
    assert histories.count_events() == 1
    assert outbox("replays").out == ""
    assert outbox("operations").out == ""


def test_a_replay_that_was_interrupted_goes_on(outbox: Outbox, histories: Histories, database: str) -> None:
    """After Ctrl-C it says how; nothing is emitted twice, nothing is left out."""
    count = 3000
    histories.connection.execute("select outbox.emit('t', key => 'k') from generate_series(1, %s)", [count])
    histories.connection.execute(
        "insert into outbox.receipts (event_id, outcome, attempts, deferrals, relay_id) "
        "select id, 'dead', 1, 0, 1 from outbox.events"
    )
    with started("replay", "--state", "dead", "--limit", "3000", "--yes", OUTBOX_DSN=database) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert poll(lambda: histories.fetch(CONNECTED) == [])
    [[replay_id]] = histories.fetch("select id from outbox.replays")
    emitted = histories.count_events() - count
    assert emitted % 1000 == 0
    if emitted < count:
        assert process.returncode == 130
        assert f"go on with: outbox replay --resume {replay_id}" in err
        answer = outbox("replay", "--resume", replay_id, "--yes")
        assert (answer.status, len(answer.lines)) == (0, count - emitted)
    assert histories.fetch("select count(distinct replay_of) from outbox.events where replay_of is not null") == [
        (count,)
    ]
    assert outbox("replay", "--resume", replay_id).err == f"nothing is left of replay {replay_id}\n"


def test_operations_tell_who_and_why(outbox: Outbox, histories: Histories) -> None:
    """For people, and as JSON; paged."""
    first, second = histories.ended(), histories.ended()
    for event_id in (first, second):
        outbox("replay", event_id, "--reason", "mended")
    [row] = outbox("operations", "--event", first, "--json").objects
    assert (row["operation"], row["event_id"], row["reason"]) == ("replay", first, "mended")
    assert row["client"].startswith("outbox ")
    assert "@" in row["client"]
    page = outbox("operations", "--limit", 1, "--operation", "replay", "--since", "1h")
    assert len(page.lines) == 1
    assert page.err == f"there may be more: --before {page.lines[0].split()[0]}\n"
