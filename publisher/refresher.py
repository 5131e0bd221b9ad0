"""Refreshes tokens of Instagram Login before they expire: 60 days, refreshable after one, lost once expired (sheet 3).

    take    one due account, moved ahead in the same statement: no other relay takes it
    ask     a token with 60 more days; the old one works on
    store   encrypted, and only in the place of the one that was refreshed: a person's new token stays

A refresh that fails is tried again in an hour, for weeks: it is due when half of the token's life is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

import anyio
import psycopg
import structlog
from anyio.abc import TaskStatus
from psycopg_pool import PoolClosed, PoolTimeout
from pydantic import SecretStr

from publisher.errors import GraphError, NoAnswer, TokenUnreadable
from publisher.graph import GraphClient
from publisher.metrics import PublisherMetrics
from publisher.tokens import KeyRing
from publisher.variants import Connections

EVERY_SECONDS = 60.0
LIFE_SECONDS_MAX = 400 * 86_400.0

log = structlog.get_logger()

TAKE: LiteralString = """
update social.accounts as a
set token_refresh_at = clock_timestamp() + interval '1 hour'
where a.id = (
  select d.id
  from social.accounts as d
  where d.token_refresh_at <= clock_timestamp()
  order by d.token_refresh_at
  limit 1
  for update skip locked
)
returning a.id, a.platform || ':' || a.remote_id, a.token_ciphertext
"""

STORE: LiteralString = """
update social.accounts as a
set
  token_ciphertext = %(fresh)s,
  token_set_at = clock_timestamp(),
  token_refreshed_at = clock_timestamp(),
  token_expires_at = clock_timestamp() + %(life_seconds)s * interval '1 second',
  token_refresh_at = clock_timestamp() + greatest(%(life_seconds)s / 2, 86400) * interval '1 second'
where a.id = %(id)s and a.token_ciphertext = %(stale)s
"""


@dataclass(frozen=True, slots=True)
class Refresher:
    """Looks now and then which tokens are due, and refreshes them one after another."""

    connections: Connections
    graph: GraphClient
    keys: KeyRing
    metrics: PublisherMetrics

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Refresh until cancelled; while the database is away nothing is due."""
        task_status.started()
        while True:
            try:
                while await self.refresh_next():
                    pass
            except (psycopg.Error, PoolTimeout, PoolClosed) as error:
                log.debug("refresh.postponed", error=str(error))
            await anyio.sleep(EVERY_SECONDS)

    async def refresh_next(self) -> bool:
        """Refresh one token that is due; False where none is."""
        async with self.connections.connection() as connection:
            row = await (await connection.execute(TAKE)).fetchone()
        if row is None:
            return False
        account_id, key, ciphertext = row
        try:
            fresh, life_seconds = await self._refresh(self.keys.decrypt(bytes(ciphertext)))
        except (GraphError, NoAnswer, TokenUnreadable) as error:
            self.metrics.refreshes.labels("failed").inc()
            log.warning("token.unrefreshed", key=key, error=str(error), next="tries again in an hour")
            return True
        arguments = {
            "id": account_id,
            "stale": bytes(ciphertext),
            "fresh": self.keys.encrypt(fresh),
            "life_seconds": life_seconds,
        }
        async with self.connections.connection() as connection:
            stored = await connection.execute(STORE, arguments)
        if stored.rowcount == 0:
            log.info("token.replaced", key=key, next="the refreshed one is forgotten: another was set meanwhile")
            return True
        self.metrics.refreshes.labels("refreshed").inc()
        log.info("token.refreshed", key=key, expires_in_days=round(life_seconds / 86_400))
        return True

    async def _refresh(self, stale: SecretStr) -> tuple[SecretStr, float]:
        answer = await self.graph.refresh(stale)
        token, life_seconds = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(token, str) or not token or not isinstance(life_seconds, int) or life_seconds <= 0:
            raise NoAnswer("expected a token and its life in the answer to a refresh, found another shape")
        return SecretStr(token), min(float(life_seconds), LIFE_SECONDS_MAX)
