"""`outbox relays` and `lanes`: who works, and how far it has come."""

from __future__ import annotations

from tests.cli.calling import Outbox
from tests.operations.histories import Histories


def test_relays_are_listed(outbox: Outbox, histories: Histories) -> None:
    """Those that were retired lately too, and longer ago where that is asked for."""
    histories.fetch(
        "insert into outbox.relays (name, version, leased_until, retired_at) "
        "values ('old', '1', now() - interval '2 days', now() - interval '2 days') returning id"
    )
    histories.fetch("update outbox.lanes set relay_id = 1 returning lane")
    [line] = outbox("relays").lines
    assert line.split("\t")[:6] == ["1", "host:1", "0", "expired", "64", "no"]
    answer = outbox("relays", "--since", "3d", "--json")
    assert (answer.status, answer.err) == (0, "")
    assert [(each["name"], each["state"], each["lane_count"]) for each in answer.objects] == [
        ("old", "retired", 0),
        ("host:1", "expired", 64),
    ]
    assert set(answer.objects[0]) == {
        "id",
        "name",
        "version",
        "state",
        "lane_count",
        "is_awake",
        "started_at",
        "leased_until",
        "retired_at",
    }


def test_lanes_are_listed(outbox: Outbox, histories: Histories) -> None:
    """All 64, with what is behind the cursor of each."""
    event_id = histories.emit(key="k")
    [(lane,)] = histories.fetch("select lane from outbox.events where id = %s", event_id)
    histories.fetch("update outbox.lanes set relay_id = 1 where lane = %s returning lane", lane)
    lines = [line.split("\t") for line in outbox("lanes").lines]
    assert [line[0] for line in lines] == [str(number) for number in range(64)]
    assert lines[lane][1:4] == ["1", "host:1", "1"]
    answer = outbox("lanes", "--json")
    assert (answer.status, answer.err) == (0, "")
    busy = answer.objects[lane]
    assert (busy["lane"], busy["relay_id"], busy["unsettled_count"], busy["is_complete"]) == (lane, 1, 1, True)
    assert busy["oldest_seconds"] > 0
    assert answer.objects[lane - 1]["oldest_at"] is None
