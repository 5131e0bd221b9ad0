"""One post, one database, one relay after another: what a crash test needs of the world around it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import anyio
import anyio.to_thread
from psycopg import AsyncConnection
from pydantic import SecretStr

from outbox import database as connections
from publisher.accounts import add_account
from publisher.sandbox.server import serve
from publisher.sandbox.settings import SandboxSettings
from publisher.tokens import KeyRing, generate_key
from tests.crash.nursery import Nursery
from tests.postgres import Databases
from tests.publisher.kinds import KIND
from tests.publisher.stage import VIDEO, picture, serve_files
from tests.sandbox.client import Client

DEADLINE_SECONDS = 120.0

BLOCK_STEPS = """
create function public.block_step() returns trigger language plpgsql as $$
begin
  if exists (
    select from public.blocked as b
    where b.relation = tg_table_name and b.name is not distinct from to_jsonb(new) ->> 'name'
      and b.state = coalesce(to_jsonb(new) ->> 'state', to_jsonb(new) ->> 'outcome')
  ) then
    perform pg_advisory_xact_lock(42);
  end if;
  return new;
end
$$;
create table public.blocked (relation text, name text, state text);
create trigger block_step before insert on outbox.steps for each row execute function public.block_step();
create trigger block_receipt before insert on outbox.receipts for each row execute function public.block_step();
"""
"""A write that a test has named waits for a lock that the test holds: the relay is caught in the middle of it."""

END_LEASE = "update outbox.relays set leased_until = clock_timestamp() where retired_at is null"

BLOCKED_BACKEND = """
select pid from pg_locks where locktype = 'advisory' and objid = 42 and not granted
and database = (select oid from pg_database where datname = current_database())
"""


@dataclass(slots=True)
class Theatre:
    """A database with one approved variant, and the sandbox that it goes to."""

    dsn: str
    connection: AsyncConnection[Any]
    client: Client
    nursery: Nursery
    environment: dict[str, str]
    account: str
    event_id: int

    async def live_count(self) -> int:
        """Return how many posts are really live on its account."""
        return int((await self.client.control("GET", f"live?account={self.account}"))["count"])

    async def start_relay(self) -> int:
        """Start a relay process."""
        return await anyio.to_thread.run_sync(self.nursery.start, self.environment)

    async def block(self, relation: str, name: str | None, state: str) -> None:
        """Have the write of a step, or of the receipt, wait for the lock that this takes."""
        await self.connection.execute("insert into public.blocked values (%s, %s, %s)", [relation, name, state])
        await self.connection.execute("select pg_advisory_lock(42)")

    async def unblock(self) -> None:
        """Let writes through again."""
        await self.connection.execute("delete from public.blocked")
        await self.connection.execute("select pg_advisory_unlock(42)")

    async def end_lease(self) -> None:
        """Let the lease of the relay that was killed be over: other tests wait for one.

        What it was writing comes first: that holds the relay's row until it commits.
        """
        await self.connection.execute(END_LEASE)

    async def blocked_backend(self) -> int:
        """Wait until a write is caught, and return the backend that makes it."""
        rows = await self.until(lambda: self.rows(BLOCKED_BACKEND))
        return int(rows[0][0])

    async def ended(self) -> str:
        """Wait for the event's receipt and return its outcome."""
        rows = await self.until(
            lambda: self.rows("select outcome from outbox.receipts where event_id = %s", self.event_id)
        )
        return str(rows[0][0])

    async def retired(self) -> None:
        """Wait until a relay has been retired by another one."""
        await self.until(lambda: self.rows("select id from outbox.relays where retired_at is not null"))

    async def incarnations(self, count: int) -> None:
        """Wait until relays have joined so many times."""
        await self.until(lambda: self.rows("select max(id) from outbox.relays having max(id) >= %s", count))

    async def trail(self) -> list[tuple[str, str]]:
        """Return the steps so far, as (name, state)."""
        return await self.rows(
            "select name, state from outbox.steps where event_id = %s order by position", self.event_id
        )

    async def rows(self, statement: str, *arguments: Any) -> list[Any]:
        """Return the rows of a query."""
        return await (await self.connection.execute(statement.encode(), arguments)).fetchall()

    async def until(self, read: Callable[[], Awaitable[list[Any]]]) -> list[Any]:
        """Poll until a query has rows; fail with the event's life when it has none within the deadline."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (rows := await read()):
            assert time.monotonic() < deadline, (
                await self.trail(),
                await self.rows("select reason, error from outbox.attempts where event_id = %s", self.event_id),
                await self.rows("select * from outbox.event_states"),
            )
            await anyio.sleep(0.02)
        return rows


@dataclass(frozen=True, slots=True)
class World:
    """What all posts share: a sandbox with its switches set, and a media server."""

    client: Client
    media_url: str

    @asynccontextmanager
    async def theatre(self, dsn: str, nursery: Nursery, kind: str, number: int) -> AsyncIterator[Theatre]:
        """Open a database for one post of a kind, on an account of its own."""
        of_kind = KIND[kind]
        key = generate_key()
        owner = await self.client.owner(of_kind.platform)
        account = f"{of_kind.platform}:{owner.id}"
        async with await connections.connect(dsn, application_name="test", statement_seconds=120) as connection:
            await connection.execute(BLOCK_STEPS)
            await add_account(
                connection,
                KeyRing(key),
                platform=of_kind.platform,
                remote_id=owner.id,
                name="greenhouse",
                token=SecretStr(owner.token),
            )
            await connection.execute(*of_kind.variant(account, self.media_url, f"{number}"))
            row = await (await connection.execute("select max(id) from outbox.events")).fetchone()
            assert row is not None
            yield Theatre(
                dsn=dsn,
                connection=connection,
                client=self.client,
                nursery=nursery,
                environment=environment(dsn, self.client.url, key),
                account=owner.id,
                event_id=row[0],
            )


def environment(dsn: str, graph_url: str, key: str) -> dict[str, str]:
    """Return a relay's environment, with waits of fractions of a second and a lease of one."""
    return {
        "OUTBOX_DSN": dsn,
        "OUTBOX_METRICS_PORT": "0",
        "OUTBOX_LOG_LEVEL": "error",
        "OUTBOX_LEASE_SECONDS": "2",
        "OUTBOX_BACKOFF_BASE_SECONDS": "0.1",
        "OUTBOX_UNKNOWN_SECONDS": "0.2",
        "OUTBOX_CONCURRENCY": "4",
        "PUBLISHER_GRAPH_URL": graph_url,
        "PUBLISHER_TOKEN_KEYS": key,
        "PUBLISHER_PRIVATE_MEDIA": "true",
        "PUBLISHER_IMAGE_POLL_SECONDS": "[0.02, 0.05]",
        "PUBLISHER_VIDEO_POLL_SECONDS": "[0.02, 0.05]",
        "PUBLISHER_REFUSED_WAIT_SECONDS": "[0.02, 0.05]",
        "PUBLISHER_OUTAGE_SECONDS": "[0.02, 0.05]",
        "PUBLISHER_PUBLISH_SECONDS": "1",
        "PUBLISHER_INTENT_SECONDS": "0.5",
        "PUBLISHER_RECONCILE_SECONDS": "0.5",
        "PUBLISHER_LIST_LAG_SECONDS": "0.5",
        "PUBLISHER_RECONCILE_SECONDS_MAX": "0.5",
        "PUBLISHER_GONE_SECONDS": "2",
    }


@asynccontextmanager
async def cloned(databases: Databases) -> AsyncIterator[str]:
    """A migrated database, made and dropped in a thread.

    A server drops none before each of its clients has answered who it is, and those of this loop could not meanwhile.
    """
    clone = databases.migrated()
    dsn = await anyio.to_thread.run_sync(clone.__enter__)
    try:
        yield dsn
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(clone.__exit__, None, None, None)


@asynccontextmanager
async def open_world(republish: str) -> AsyncIterator[World]:
    """Open a sandbox that answers a repeated publish in one of the three ways."""
    pictures = picture()
    files = {f"{number}.jpg": pictures for number in range(200)}
    files |= {f"{number}.mp4": VIDEO.read_bytes() for number in range(200)}
    settings = SandboxSettings(port=0, image_seconds=(0, 0), video_seconds=(0.05, 0.05))
    async with serve(settings) as sandbox, serve_files(files) as media_url, aiohttp.ClientSession() as session:
        client = Client(sandbox.url, session)
        await client.use(republish=republish)
        yield World(client, media_url)
