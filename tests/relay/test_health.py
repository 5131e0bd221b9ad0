"""What others ask over HTTP: names that are final, and whether the relay does its work."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from outbox.event import LANE_COUNT
from outbox.outcome import Hold, Reason, Retry
from outbox.ownership import count_unowned_lanes
from outbox.waiting import COUNT_OFTEN_DEFERRED
from schema.embedded import EmbeddedPostgres
from schema.migrate import migrate
from tests.relay.running import (
    TERMINATE,
    Script,
    Store,
    closed,
    emit,
    eventually,
    get,
    rows,
    settings,
    state_is,
    working,
)

pytestmark = pytest.mark.anyio

FAMILIES = {
    "outbox_events_emitted": ("counter", {"type"}),
    "outbox_events_settled": ("counter", {"type", "outcome"}),
    "outbox_retries": ("counter", {"type"}),
    "outbox_deferrals": ("counter", {"type", "reason"}),
    "outbox_unknown": ("counter", {"type"}),
    "outbox_oldest_unsettled_seconds": ("gauge", set()),
    "outbox_backlog_events": ("gauge", set()),
    "outbox_waiting_events": ("gauge", {"reason"}),
    "outbox_waiting_events_estimate": ("gauge", set()),
    "outbox_oldest_waiting_seconds": ("gauge", {"reason"}),
    "outbox_often_deferred_events": ("gauge", set()),
    "outbox_holds": ("gauge", {"scope", "reason"}),
    "outbox_lanes_unowned": ("gauge", set()),
    "outbox_in_flight_events": ("gauge", set()),
    "outbox_dispatch_delay_seconds": ("histogram", {"le"}),
    "outbox_settle_delay_seconds": ("histogram", {"le"}),
    "outbox_listener_connected": ("gauge", set()),
    "outbox_listener_deaf": ("counter", set()),
    "outbox_lanes_owned": ("gauge", set()),
    "outbox_notification_queue_usage_ratio": ("gauge", set()),
    "outbox_rings": ("counter", set()),
    "outbox_polls": ("counter", set()),
    "outbox_bell_muted": ("gauge", set()),
    "outbox_incarnations": ("counter", set()),
    "outbox_database_up": ("gauge", set()),
    "outbox_verify_only": ("gauge", set()),
}


async def samples(url: str) -> dict[str, float]:
    """Every series of /metrics, as Prometheus reads it."""
    _, text = await get(f"{url}/metrics")
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={label}" for name, label in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


async def test_names_and_labels_are_final(database: str, script: Script) -> None:
    """Dashboards and alerts depend on them, and no other label makes new series."""
    async with working(settings(database), script) as url:
        _, text = await get(f"{url}/metrics")
    found = {
        family.name: (
            family.type,
            {label for sample in family.samples if not sample.name.endswith("_created") for label in sample.labels},
        )
        for family in text_string_to_metric_families(text)
        if family.name.startswith("outbox_") and not family.name.endswith("_created")
    }
    assert found == FAMILIES


async def test_every_series_is_there_from_the_start(database: str, script: Script) -> None:
    """A counter that appears at one has no rate."""
    async with working(settings(database), script) as url:
        found = await samples(url)
    for event_type in ("t", "other"):
        for outcome in ("published", "dead", "cancelled", "expired"):
            assert found[f"outbox_events_settled_total{{outcome={outcome},type={event_type}}}"] == 0
        for reason in Reason:
            assert found[f"outbox_deferrals_total{{reason={reason},type={event_type}}}"] == 0
    assert {f"outbox_waiting_events{{reason={reason}}}" for reason in Reason} <= found.keys()


async def test_outcomes_are_counted_when_they_are_durable(database: str, store: Store, script: Script) -> None:
    """One event that was retried once, and one of a type that nobody handles."""
    script.acts["a"] = [Retry("once")]
    async with working(settings(database, attempts_max=2), script) as url:
        await state_is(store, await emit(store, "a"), "dead")
        await store.execute("select outbox.emit('whatever ' || clock_timestamp())")
        await state_is(store, await emit(store, "b"), "published")
        await eventually(partial(has_rung, url, 3))  # what the first of two rings brings may be read for both
        found = await samples(url)
    assert found["outbox_events_emitted_total{type=t}"] == 2
    assert found["outbox_events_emitted_total{type=other}"] == 1
    assert found["outbox_events_settled_total{outcome=dead,type=t}"] == 1
    assert found["outbox_events_settled_total{outcome=published,type=t}"] == 1
    assert found["outbox_events_settled_total{outcome=dead,type=other}"] == 1
    assert found["outbox_retries_total{type=t}"] == 1
    assert found["outbox_dispatch_delay_seconds_count{}"] == 2
    assert found["outbox_settle_delay_seconds_count{}"] == 2
    assert not any("whatever" in series for series in found)


async def has_rung(url: str, count: int) -> bool:
    """Whether the relay has heard so many bells."""
    return (await samples(url))["outbox_rings_total{}"] >= count


async def test_a_working_relay_tells_its_state(database: str, script: Script) -> None:
    """It has its lanes, its lease and its listener, joined once, and nothing is late."""
    async with working(settings(database), script) as url:
        found = await samples(url)
    assert found["outbox_lanes_owned{}"] == 64
    assert found["outbox_listener_connected{}"] == 1
    assert found["outbox_database_up{}"] == 1
    assert found["outbox_incarnations_total{}"] == 1
    assert found["outbox_bell_muted{}"] == 0
    assert found["outbox_oldest_unsettled_seconds{}"] == 0


async def test_age_grows_while_an_event_waits(database: str, store: Store, script: Script) -> None:
    """Depth zero and age a minute would be a queue that nobody reads: age counts what waits, too."""
    script.acts["a"] = [Retry("later", after_seconds=300)]
    event_id = await emit(store, "a")
    async with working(settings(database), script):
        await state_is(store, event_id, "waiting:retry")
    async with working(settings(database), script) as url:
        assert (await samples(url))["outbox_waiting_events{reason=retry}"] == 1
        assert (await samples(url))["outbox_oldest_unsettled_seconds{}"] > 0


async def test_a_relay_that_runs_is_alive_and_ready(database: str, script: Script) -> None:
    """Both pages are JSON."""
    async with working(settings(database), script) as url:
        status, text = await get(f"{url}/healthz")
        assert (status, json.loads(text)) == (200, {"alive": True})
        status, text = await get(f"{url}/readyz")
        assert (status, json.loads(text)) == (
            200,
            {"ready": True, "lease_held": True, "lanes_owned": 64, "listener": "connected", "verify_only": False},
        )


async def test_an_outage_is_shown(database: str, store: Store, script: Script) -> None:
    """While the database is away the relay is alive and not ready, and no gauge says that it works."""
    async with working(settings(database), script) as url:
        async with closed(database):
            await store.execute(TERMINATE)
            await eventually(partial(is_down, url))
            found = await samples(url)
            pages = [(await get(f"{url}/{page}"))[0] for page in ["healthz", *["readyz"] * 20]]
        await state_is(store, await emit(store, "a"), "published")
        again = await samples(url)
    assert pages == [200, *[503] * 20]
    assert (found["outbox_lanes_owned{}"], found["outbox_listener_connected{}"]) == (0, 0)
    assert (again["outbox_database_up{}"], again["outbox_lanes_owned{}"]) == (1, 64)


async def test_an_outage_shows_no_figure_that_may_be_wrong_by_now(database: str, store: Store, script: Script) -> None:
    """What waits, what is held and who owns what is not known; the age grows, for somebody may be emitting."""
    asked = {
        "outbox_waiting_events{reason=retry}",
        "outbox_oldest_waiting_seconds{reason=retry}",
        "outbox_often_deferred_events{}",
        "outbox_holds{reason=token,scope=key}",
        "outbox_lanes_unowned{}",
        "outbox_notification_queue_usage_ratio{}",
    }
    async with working(settings(database), script) as url:
        async with closed(database):
            await store.execute(TERMINATE)
            await eventually(partial(is_down, url))
            found = await samples(url)
            later = await samples(url)
        await eventually(partial(are_known, url, asked))
        await eventually(partial(are_owned, url))  # its lease may have ended meanwhile
        again = await samples(url)
    assert {series for series in asked if math.isnan(found[series])} == asked
    assert 0 < found["outbox_oldest_unsettled_seconds{}"] < later["outbox_oldest_unsettled_seconds{}"]
    assert again["outbox_oldest_unsettled_seconds{}"] == 0
    assert {again[series] for series in asked} == {0}


async def test_a_scrape_asks_the_database_nothing(own_server: Callable[..., EmbeddedPostgres], script: Script) -> None:
    """It is answered while no process of the server runs: it costs as much with a million waiting rows as with none."""
    server = own_server()
    dsn = server.create_database("app")
    migrate(dsn)
    async with working(settings(dsn, lease_seconds=60.0), script) as url:
        with stopped(server):
            found = await samples(url)
        assert (found["outbox_database_up{}"], found["outbox_waiting_events{reason=retry}"]) == (1, 0)


@contextmanager
def stopped(server: EmbeddedPostgres) -> Iterator[None]:
    """No process of the server runs until the end of the block, so that no statement is answered."""
    assert server.pid is not None
    with psycopg.connect(server.dsn()) as connection:
        found = connection.execute("select pid from pg_stat_activity where pid <> pg_backend_pid()").fetchall()
    pids = [server.pid, *(pid for (pid,) in found)]
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def test_what_is_held_and_what_is_put_off_again_and_again_is_counted(
    database: str, store: Store, script: Script
) -> None:
    """A hold of the relay's goes by its reason, one by hand is the operator's, whatever was said."""
    script.acts["a"] = [Hold(3600, "token", "refused")]
    async with working(settings(database), script) as url:
        event_id = await emit(store, "a", key="k")
        await state_is(store, event_id, "waiting:held")
        await store.execute("select outbox.hold('other', 'infinity', 'wrong pictures')")
        await store.execute("update outbox.waiting set deferrals = 25")

        async def counted() -> bool:
            found = await samples(url)
            return (
                found["outbox_holds{reason=token,scope=key}"] == 1
                and found["outbox_holds{reason=operator,scope=key}"] == 1
                and found["outbox_holds{reason=operator,scope=app}"] == 0
                and found["outbox_often_deferred_events{}"] == 1
                and found["outbox_oldest_waiting_seconds{reason=held}"] > 0
                and found["outbox_lanes_unowned{}"] == 0
            )

        await eventually(counted)
        assert (await samples(url))["outbox_oldest_unsettled_seconds{}"] == 0  # it waits for a token, not for us


async def test_lanes_of_a_relay_that_is_gone_are_counted(database: str, store: Store) -> None:
    """Before somebody takes them."""
    assert await count_unowned_lanes(store) == LANE_COUNT
    await store.execute(
        "with gone as (insert into outbox.relays (name, version, leased_until) values ('gone', '1', now())"
        " returning id) update outbox.lanes set relay_id = gone.id from gone"
    )
    assert await count_unowned_lanes(store) == LANE_COUNT
    await store.execute("update outbox.relays set leased_until = now() + interval '1 hour'")
    assert await count_unowned_lanes(store) == 0


async def test_counting_what_is_put_off_reads_nothing_else(store: Store) -> None:
    """By the index that holds no other rows."""
    await store.execute("set enable_seqscan = off")
    plan = await rows(store, f"explain {COUNT_OFTEN_DEFERRED}", {"count_max": 10})
    assert "waiting_often_deferred" in "\n".join(line for (line,) in plan)


async def are_known(url: str, asked: set[str]) -> bool:
    """Whether these series have values."""
    found = await samples(url)
    return not any(math.isnan(found[series]) for series in asked)


async def are_owned(url: str) -> bool:
    """Whether no lane is nobody's."""
    return (await samples(url))["outbox_lanes_unowned{}"] == 0


async def is_down(url: str) -> bool:
    """Whether the relay says that the database is away."""
    return (await samples(url))["outbox_database_up{}"] == 0
