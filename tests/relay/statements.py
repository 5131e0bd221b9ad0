"""What a relay asks its server, counted by the server: pg_stat_statements, on a server of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import LiteralString

import anyio
from psycopg import AsyncConnection

from schema.embedded import EmbeddedPostgres
from schema.migrate import migrate
from tests.relay.running import Store, rows

COUNT: LiteralString = """
select coalesce(sum(s.calls), 0)::int, coalesce(sum(s.rows), 0)::int
from pg_stat_statements as s join pg_database as d on d.oid = s.dbid
where d.datname = current_database() and position(%s in s.query) > 0
"""

LOOK = "  w.snapshot::text,"
LIST = "found as materialized"
FETCH = "from outbox.events as e\nwhere e.id = any ("
"""What only these statements of `outbox.log` and `outbox.listing` say."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A database whose statements are counted, and a connection to it."""

    dsn: str
    store: Store

    async def calls(self, text: str) -> int:
        """How often statements that contain a text were run."""
        [(count, _)] = await rows(self.store, COUNT, [text])
        return int(count)

    async def returned(self, text: str) -> int:
        """How many rows they returned."""
        [(_, count)] = await rows(self.store, COUNT, [text])
        return int(count)

    async def quiet(self, text: str) -> int:
        """How often they were run, once they are run no more: the bell of lanes that were just taken is not trusted."""
        before, after = -1, await self.calls(text)
        while before != after:
            await anyio.sleep(0.3)
            before, after = after, await self.calls(text)
        return after


@asynccontextmanager
async def counting(own_server: Callable[..., EmbeddedPostgres]) -> AsyncIterator[Counted]:
    """Start a server that counts, with a migrated database."""
    dsn = own_server({"shared_preload_libraries": "pg_stat_statements"}).create_database("app")
    migrate(dsn)
    async with await AsyncConnection.connect(dsn, autocommit=True, application_name="outbox-test") as store:
        await store.execute("create extension pg_stat_statements")
        yield Counted(dsn, store)
