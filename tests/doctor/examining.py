"""Examines a database and picks what one check found."""

from __future__ import annotations

from collections.abc import Callable
from time import time

from outbox.doctor.examination import examine
from outbox.doctor.finding import Finding, Level
from outbox.doctor.patient import Thresholds

STRICT = Thresholds(
    transaction_seconds=(0, 0), backlog_seconds=(0, 0), overdue_seconds=0, delay_seconds=(0, 0), dead_rows=1
)
"""Bad at once, so that no test has to wait for it."""


async def found(
    dsn: str, check: str, *, thresholds: Thresholds | None = None, now: Callable[[], float] = time
) -> Finding:
    """What one check found."""
    findings = await examine(dsn, thresholds=thresholds, now=now)
    [finding] = [each for each in findings if each.check == check]
    assert (finding.advice is None) == (finding.level is Level.OK)
    return finding
