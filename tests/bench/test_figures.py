"""What does not depend on the machine: rows, statements, WAL, and that all figures are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from relay.bench.emit import Variant, emit
from relay.bench.fairness import Phase
from relay.bench.progress import keep_silent
from relay.bench.writers import Writers
from tests.cli.calling import Outbox

COST = {
    "benchmark",
    "server_version",
    "events",
    "seconds",
    "events_per_second",
    "relay_cpu_microseconds_per_event",
    "wal_bytes_per_event",
    "statements_per_event",
    "tables",
}
PER_EVENT = ("outbox.events", "outbox.receipts", "outbox.steps", "outbox.attempts", "outbox.waiting", "bench.orders")
"""Tables that grow with events; all others change with time."""


LATENCY_STATEMENTS_MAX = 5.5
"""Of 80 events at rest: three each, and what a relay's start and end take. A second and third look would make 6.7."""


def only_inserted(tables: dict[str, dict[str, int]]) -> bool:
    """Whether no row was updated or deleted for an event."""
    changes = [tables[name] for name in PER_EVENT if name in tables]
    return all(each["updated"] == each["deleted"] == each["dead"] == 0 for each in changes)


def measure(outbox: Outbox, *arguments: object) -> list[dict[str, Any]]:
    """Run a benchmark that succeeds, and return what it printed as JSON."""
    answer = outbox("bench", *arguments, "--json")
    assert answer.status == 0, answer.err
    assert all(found.keys() >= COST for found in answer.objects)
    return answer.objects


def test_a_drain_only_inserts_and_groups_its_writes(outbox: Outbox) -> None:
    """A receipt an event and nothing else; a hundred events share a statement, and 260 bytes of WAL carry one."""
    [found] = measure(outbox, "drain", 3000)
    assert found["events"] == 3000
    assert found["tables"]["outbox.receipts"] == {"inserted": 3000, "updated": 0, "deleted": 0, "dead": 0}
    assert only_inserted(found["tables"])
    assert 0 < found["wal_bytes_per_event"] <= 260
    assert 0 < found["statements_per_event"] <= 0.05
    assert found["seconds"] > 0
    assert found["start_seconds"] > 0
    assert found["relay_cpu_microseconds_per_event"] > 0


def test_an_analyzed_drain_makes_as_many_statements(outbox: Outbox) -> None:
    """What the planner knows changes neither what is written nor how often it is asked; memory is told of."""
    [plain, analyzed] = measure(outbox, "drain", 2000, "--bulk") + measure(outbox, "drain", 2000, "--analyze")
    assert analyzed["statements_per_event"] <= 0.06
    assert analyzed["tables"]["outbox.receipts"] == plain["tables"]["outbox.receipts"]
    assert 10_000_000 < plain["relay_memory_bytes"] < 400_000_000


def test_an_idle_relay_writes_no_event_and_is_framed_by_two(outbox: Outbox) -> None:
    """Transactions and CPU are there; a relay that looks at the log in a loop would make hundreds a second."""
    [found] = measure(outbox, "idle", 5)
    assert found["events"] == 2
    assert only_inserted(found["tables"])
    assert 0 <= found["transactions_per_second"] < 10
    assert found["core_share"] > 0


def test_a_held_horizon_leaves_no_dead_rows_of_events(outbox: Outbox) -> None:
    """What grows with events has nothing to vacuum, and each tenth has its rate."""
    [found] = measure(outbox, "horizon", 500)
    assert only_inserted(found["tables"])
    assert found["tables"]["outbox.receipts"]["inserted"] == 500
    assert len(found["tenths_events_per_second"]) == 10
    assert found["last_to_first_tenth"] > 0


def test_latency_counts_every_event_at_its_rate(outbox: Outbox) -> None:
    """60 events after a warm-up of 20, each of them timed; emit, one look and one receipt are all that one takes."""
    [found] = measure(outbox, "latency", 60, 1)
    assert found["tables"]["outbox.events"]["inserted"] == 80
    assert only_inserted(found["tables"])
    assert 0 < found["handler_p50_milliseconds"] <= found["handler_p99_milliseconds"]
    assert found["handler_p99_milliseconds"] <= found["handler_max_milliseconds"]
    assert 0 < found["commit_p50_milliseconds"] <= found["commit_max_milliseconds"]
    assert found["rate_per_second"] <= 70
    assert found["muted_share"] == 0
    assert found["emitters"] == 1
    assert found["statements_per_event"] <= LATENCY_STATEMENTS_MAX


def test_a_high_rate_is_emitted_by_several_connections(outbox: Outbox) -> None:
    """One for each 250 events a second: a commit after another is no more than a disk's syncs. None is left out."""
    [found] = measure(outbox, "latency", 501, 0.2)
    assert found["emitters"] == 3
    assert found["tables"]["outbox.events"]["inserted"] == 100 + 20
    assert 0 < found["handler_p50_milliseconds"] <= found["handler_max_milliseconds"]


def test_fairness_times_every_event_of_the_others(outbox: Outbox) -> None:
    """As many beside the hot key as without it, in whatever phase."""
    answer = outbox("bench", "fairness", 2000, 50, 5, "--json")
    assert answer.status == 0, answer.err
    without, *beside = answer.objects
    assert without["phase"] == Phase.WITHOUT.value
    assert without["events"] == sum(each["events"] for each in beside) == 250
    assert 0 < without["handler_p50_milliseconds"] <= without["handler_max_milliseconds"]
    assert all(each["handler_p99_milliseconds"] > 0 for each in beside if each["events"] > 1)
    assert "emitted 2,000 events of the hot key" in answer.err


def test_the_pipeline_makes_the_calls_that_a_bare_script_makes(outbox: Outbox) -> None:
    """Five of Graph a story, as the sandbox counts them, and quotas now and then; three steps and a receipt."""
    [found] = measure(outbox, "pipeline", 30, "--accounts", 3, "--rounds", 2)
    assert found["events"] == 60
    assert found["bare_calls_per_story"] == 5
    assert 5 <= found["relay_calls_per_story"] <= 6
    assert found["sandbox_calls_per_cpu_second"] > 0
    assert only_inserted(found["tables"])
    assert found["tables"]["outbox.steps"]["inserted"] == 180
    assert found["tables"]["outbox.receipts"]["inserted"] == 60
    assert found["share_of_bare"] > 0
    assert found["bare_stories_per_second"] > 0


def test_a_drain_outlives_its_relays_and_its_server(outbox: Outbox) -> None:
    """Everything is handled, nothing again that has a receipt, and the relay whose server died goes on."""
    answer = outbox("bench", "recovery", 2000, "--kills", 2, "--lease", 1.5, "--json")
    assert answer.status == 0, answer.err
    killed, restarted = answer.objects
    assert [killed["deaths"], restarted["deaths"]] == [2, 1]
    for found in (killed, restarted):
        assert found["events"] == found["handled_count"] == 2000
        assert found["handled_after_receipt_count"] == 0
        assert found["handled_again_count"] < 2000 * found["deaths"]
        assert found["relay_lives"]


def test_emit_measures_each_variant(outbox: Outbox) -> None:
    """A transaction is one statement; the relay at work brings a receipt an event."""
    found = measure(outbox, "emit", "--seconds", 1, "--connections", 2, "--rounds", 1)
    assert [each["variant"] for each in found] == [variant.value for variant in Variant]
    assert [each["share_of_baseline"] == 1 for each in found] == [True] + [False] * 5
    baselines = {each["variant"]: each["baseline"] for each in found}
    assert baselines[Variant.MUTED] == Variant.SILENT
    assert baselines[Variant.RELAYED] == Variant.LOG_ONLY
    assert all(each["events"] > 0 and only_inserted(each["tables"]) for each in found)
    assert all(1 <= each["statements_per_event"] < 1.5 for each in found[:-1])
    assert [each["unsettled_events"] is None for each in found] == [True] * 5 + [False]
    relayed = found[-1]["tables"]
    assert relayed["outbox.receipts"]["inserted"] == relayed["outbox.events"]["inserted"]


def test_emit_does_without_pgbench(database: str) -> None:
    """Python writes then, and says that it may be the limit."""
    writers = Writers(database, 4, None)
    found = emit(database, writers, 0.2, 2, keep_silent)
    assert "may be the limit" in writers.description
    assert [each.variant for each in found] == list(Variant)
    assert all(each.cost.events > 0 for each in found)
    orders = found[0].cost.tables["bench.orders"]
    assert orders.inserted == found[0].cost.events


@pytest.mark.parametrize("benchmark", [("drain", 10), ("horizon", 10)])
def test_nothing_is_left_and_nothing_of_the_users_is_touched(
    benchmark: tuple[object, ...], outbox: Outbox, empty_database: str, scratches: Callable[[], list[str]]
) -> None:
    """The scratch database is gone, and the one in OUTBOX_DSN has no schema still."""
    answer = outbox("bench", *benchmark)
    assert answer.status == 0
    assert "\t" in answer.out
    assert scratches() == []
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("select to_regnamespace('outbox')").fetchone() == (None,)


def test_traces_are_two_spans_an_event_and_none_where_nobody_asks(outbox: Outbox) -> None:
    """All of them reach the collector, the last ones too."""
    off, on = measure(outbox, "traces", 300, "--rounds", 1)
    assert (off["traces"], off["spans_per_event"]) == ("off", 0)
    assert (on["traces"], on["spans_per_event"]) == ("on", 2)
