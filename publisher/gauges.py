"""The gauges of accounts: how their tokens and limits stand. Counted by state, never by account."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import LiteralString

import anyio
import psycopg
import structlog
from anyio.abc import TaskStatus
from psycopg_pool import PoolClosed, PoolTimeout

from publisher.metrics import Limit, PublisherMetrics, TokenState
from publisher.usage import APP, Pace
from publisher.variants import Connections

EVERY_SECONDS = 30.0

log = structlog.get_logger()

COUNT: LiteralString = """
select s.quota_state, s.token_state, count(*),
  min(extract(epoch from s.token_expires_at - clock_timestamp()))::float8 as token_expires_seconds
from social.account_states as s
group by 1, 2
"""

USED: LiteralString = """
with figures as (
  select u.subject = %(app)s as is_app,
    case when u.read_at > clock_timestamp() - interval '1 hour' then u.percent / 100.0 end as calls,
    case when u.quota_read_at > clock_timestamp() - interval '1 day'
      then u.quota_usage / nullif(u.quota_total, 0)::float8 end as publishes
  from social.usage as u
)
select max(f.calls) filter (where f.is_app)::float8, max(f.calls) filter (where not f.is_app)::float8, max(f.publishes)
from figures as f
"""


@dataclass(frozen=True, slots=True)
class Gauges:
    """Reads them now and then: a scrape costs the database nothing."""

    connections: Connections
    metrics: PublisherMetrics

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read until cancelled; while the database is away they are not known."""
        task_status.started()
        while True:
            try:
                await self.read()
            except (psycopg.Error, PoolTimeout, PoolClosed) as error:
                log.debug("gauges.unread", error=str(error))
                self.metrics.database_lost()
            await anyio.sleep(EVERY_SECONDS)

    async def read(self) -> None:
        """Read them once."""
        async with self.connections.connection() as connection:
            rows = await (await connection.execute(COUNT)).fetchall()
            used = await (await connection.execute(USED, {"app": APP})).fetchone()
        for pace in Pace:
            self.metrics.accounts_quota.labels(pace).set(sum(count for quota, _, count, _ in rows if quota == pace))
        for state in TokenState:
            self.metrics.accounts_token.labels(state).set(sum(count for _, token, count, _ in rows if token == state))
        known = [seconds for *_, seconds in rows if seconds is not None]
        self.metrics.token_expires.set(min(known, default=math.nan))
        for limit, ratio in zip(Limit, used or (), strict=False):
            self.metrics.limit_used.labels(limit).set(math.nan if ratio is None else ratio)
