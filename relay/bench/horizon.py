"""`outbox bench horizon`: a drain while a transaction that was forgotten holds the horizon.

What such a transaction may still see can't be vacuumed away. A queue that updates or deletes the rows of its events
wades through ever more of their dead versions; the log only inserts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, LiteralString

from relay.bench.drain import fill, work_off
from relay.bench.progress import Tell
from relay.bench.readings import Cost, changes, read
from schema.server import connect

TENTHS: Final = 10

NEVER_END: LiteralString = "set idle_in_transaction_session_timeout = 0"
BEGIN: LiteralString = "begin isolation level repeatable read"
TAKE_SNAPSHOT: LiteralString = "select count(*) from outbox.lanes"

READ_TENTHS: LiteralString = """
with settled as (
  select settled_at, dispatched_at, ntile(%(tenths)s) over (order by settled_at, event_id) as tenth from outbox.receipts
)
select count(*), extract(epoch from min(dispatched_at))::float8, extract(epoch from max(settled_at))::float8
from settled group by tenth order by tenth
"""


@dataclass(frozen=True, slots=True)
class Held:
    """What a drain under a held horizon showed.

    Attributes:
        cost: As of a drain.
        tenths: Events a second of each tenth of the events, by the database's clock: from the first dispatch to the
            receipts of the first tenth, and so on. Receipts come in batches, so tenths of few events say little.
    """

    cost: Cost
    tenths: tuple[float, ...]

    @property
    def last_to_first(self) -> float:
        """The rate of the last tenth as a share of the first's; level is about 1."""
        return self.tenths[-1] / self.tenths[0]


def horizon(dsn: str, count: int, tell: Tell) -> Held:
    """Measure a drain with the horizon held from before the first event was emitted to after the last receipt."""
    before = read(dsn)
    with _held(dsn):
        fill(dsn, count, tell)
        work = work_off(dsn, count, tell)
    after = read(dsn)
    statements = (after.statements - before.statements) / count
    cost = Cost(count, work.seconds, work.cpu_microseconds, work.wal_bytes, statements, changes(before, after))
    return Held(cost, _tenths(dsn))


@contextmanager
def _held(dsn: str) -> Iterator[None]:
    with connect(dsn) as connection:
        connection.execute(NEVER_END)
        connection.execute(BEGIN)
        connection.execute(TAKE_SNAPSHOT)
        yield


def _tenths(dsn: str) -> tuple[float, ...]:
    with connect(dsn) as connection:
        rows = connection.execute(READ_TENTHS, {"tenths": TENTHS}).fetchall()
    instants = [rows[0][1], *(settled_at for _, _, settled_at in rows)]
    seconds = [end - begin for begin, end in pairwise(instants)]
    # A batch of receipts may span a tenth of few events, and the instants of its rows lie microseconds apart.
    return tuple(count / max(each, 1e-6) for (count, _, _), each in zip(rows, seconds, strict=True))
