"""A histogram of delays that costs little to observe."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class DelayHistogram(Collector):
    """A histogram without labels, observed and read on one thread: the event loop's.

    prometheus-client's own takes two locks and walks its buckets for each observation. With two observations an event
    that was a tenth of the relay's CPU while it drains.

    Args:
        name: Its name; ends in the unit.
        documentation: What it measures.
        buckets: The upper bounds, ascending; infinity comes by itself.
        registry: Where it is exposed.
    """

    def __init__(self, name: str, documentation: str, buckets: Sequence[float], registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = tuple(buckets)
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, seconds: float) -> None:
        """Count one delay."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def observe_all(self, delays: Iterable[float]) -> None:
        """Count many."""
        bounds, counts = self._bounds, self._counts
        for seconds in delays:
            counts[bisect_left(bounds, seconds)] += 1
            self._sum += seconds

    def collect(self) -> Iterable[Metric]:
        """Give what was observed so far: a `Collector`."""
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=self._sum)
