"""A histogram of delays that costs little to observe."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_UNCOUNTED_MAX: Final = 1000


class DelayHistogram(Collector):
    """A histogram without labels, observed and read on one thread: the event loop's.

    prometheus-client's own takes two locks and walks its buckets for each observation. With two observations an event
    that was a tenth of the relay's CPU while it drains. Here delays are kept until there are many, or somebody asks,
    and sorted: then each bucket is looked for once.

    Args:
        name: Its name; ends in the unit.
        documentation: What it measures.
        buckets: The upper bounds, ascending; infinity comes by itself.
        registry: Where it is exposed.
    """

    def __init__(self, name: str, documentation: str, buckets: Sequence[float], registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = (*map(float, buckets), float("inf"))
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        self._uncounted: list[float] = []
        registry.register(self)

    def observe(self, seconds: float) -> None:
        """Count one delay; of two clocks that differ, a delay below zero is none."""
        self._uncounted.append(seconds)
        if len(self._uncounted) >= _UNCOUNTED_MAX:
            self._count()

    def observe_all(self, delays: Iterable[float]) -> None:
        """Count many."""
        self._uncounted.extend(delays)
        if len(self._uncounted) >= _UNCOUNTED_MAX:
            self._count()

    def collect(self) -> Iterable[Metric]:
        """Give what was observed so far: a `Collector`."""
        self._count()
        buckets = list(zip(map(floatToGoString, self._bounds), self._counts, strict=True))
        yield HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=self._sum)

    def _count(self) -> None:
        delays, self._uncounted = sorted(self._uncounted), []
        self._counts = [
            count + bisect_right(delays, bound) for count, bound in zip(self._counts, self._bounds, strict=True)
        ]
        self._sum += sum(delays[bisect_right(delays, 0) :])
