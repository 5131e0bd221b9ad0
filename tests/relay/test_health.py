"""What others ask over HTTP: names that are final, and whether the relay does its work."""

from __future__ import annotations

import json
from functools import partial

import pytest
from prometheus_client.parser import text_string_to_metric_families

from outbox.outcome import Reason, Retry
from tests.relay.running import TERMINATE, Script, Store, closed, emit, eventually, get, settings, state_is, working

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
    "outbox_in_flight_events": ("gauge", set()),
    "outbox_dispatch_delay_seconds": ("histogram", {"le"}),
    "outbox_settle_delay_seconds": ("histogram", {"le"}),
    "outbox_listener_connected": ("gauge", set()),
    "outbox_lanes_owned": ("gauge", set()),
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
        found = await samples(url)
    assert found["outbox_events_emitted_total{type=t}"] == 2
    assert found["outbox_events_emitted_total{type=other}"] == 1
    assert found["outbox_events_settled_total{outcome=dead,type=t}"] == 1
    assert found["outbox_events_settled_total{outcome=published,type=t}"] == 1
    assert found["outbox_events_settled_total{outcome=dead,type=other}"] == 1
    assert found["outbox_retries_total{type=t}"] == 1
    assert found["outbox_dispatch_delay_seconds_count{}"] == 2
    assert found["outbox_settle_delay_seconds_count{}"] == 2
    assert found["outbox_rings_total{}"] >= 3
    assert not any("whatever" in series for series in found)


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


async def is_down(url: str) -> bool:
    """Whether the relay says that the database is away."""
    return (await samples(url))["outbox_database_up{}"] == 0
