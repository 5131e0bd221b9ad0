"""Who is examined, and from when on something is bad."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.doctor.finding import Finding


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From when on something is bad: pairs are of a warning and of a failure.

    Attributes:
        transaction_seconds: Age of the oldest open transaction.
        backlog_seconds: Age of the oldest event that no relay has settled.
        overdue_seconds: How long a waiting event may be due, or past its deadline.
        delay_seconds: The 99th percentile from emit to the handler.
        clock_seconds: How far this machine's clock may be off.
        listen_seconds: How long a notification may take.
        dead_rows: Dead rows of a table of ours, where they are more than ten times the live ones.
    """

    transaction_seconds: tuple[float, float] = (300, 3600)
    backlog_seconds: tuple[float, float] = (60, 600)
    overdue_seconds: float = 60
    delay_seconds: tuple[float, float] = (60, 600)
    clock_seconds: float = 5
    listen_seconds: float = 5
    dead_rows: int = 10_000


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined.

    Attributes:
        dsn: Its address.
        listen_dsn: The address at which the relay listens.
        connection: In autocommit; a replica too.
        thresholds: From when on something is bad.
        now: This machine's clock, in seconds of the epoch.
    """

    dsn: str
    listen_dsn: str
    connection: AsyncConnection[TupleRow]
    thresholds: Thresholds = field(default_factory=Thresholds)
    now: Callable[[], float] = time.time


Look = Callable[[Patient], Awaitable[list[Finding]]]
"""What a check is: it looks at one thing, or at some that belong together."""
