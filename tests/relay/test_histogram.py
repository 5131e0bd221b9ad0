"""The histogram of delays, beside prometheus-client's own."""

from __future__ import annotations

from random import Random

import pytest
from prometheus_client import CollectorRegistry, Histogram

from relay.histogram import DelayHistogram

BOUNDS = (0.001, 0.01, 0.5, 1, 30)


@pytest.mark.parametrize("count", [0, 1, 2500])
def test_delays_are_counted_as_prometheus_does(count: int) -> None:
    """However many there are, whether they come one by one or together, and where one is a bound itself."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    histogram = DelayHistogram("delay_seconds", "t", BOUNDS, ours)
    reference = Histogram("delay_seconds", "t", buckets=BOUNDS, registry=theirs)
    random = Random(1)
    delays = [random.choice([*BOUNDS, random.expovariate(1), 100 * random.random()]) for _ in range(count)]
    for delay in delays[: count // 2]:
        histogram.observe(delay)
    histogram.observe_all(delays[count // 2 :])
    for delay in delays:
        reference.observe(delay)
    samples: list[tuple[str, dict[str, str], object]] = [
        (each.name, each.labels, each.value) for family in ours.collect() for each in family.samples
    ]
    expected = [
        (each.name, each.labels, pytest.approx(each.value))
        for family in theirs.collect()
        for each in family.samples
        if not each.name.endswith("_created")
    ]
    assert samples == expected


def test_a_delay_below_zero_is_none() -> None:
    """The emitting server's clock and the relay's reading of it may differ by a moment."""
    registry = CollectorRegistry()
    DelayHistogram("delay_seconds", "t", BOUNDS, registry).observe_all([-0.25, 2.0])
    assert registry.get_sample_value("delay_seconds_bucket", {"le": "0.001"}) == 1
    assert registry.get_sample_value("delay_seconds_sum") == 2.0
