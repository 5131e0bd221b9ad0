"""A relay with the real publisher, in this process, and accounts at the sandbox: what survives the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import aiohttp
import anyio
import psycopg
from psycopg import AsyncConnection
from pydantic import SecretStr

from outbox import database
from publisher.accounts import add_account
from publisher.handler import open_handler_with
from publisher.sandbox.server import serve as serve_sandbox
from publisher.sandbox.settings import SandboxSettings
from publisher.settings import PublisherSettings
from publisher.tokens import KeyRing, generate_key
from relay import app
from tests.cli.calling import Answer, started
from tests.publisher.stage import picture, quick, serve_files
from tests.relay.running import eventually, get, settings, value
from tests.sandbox.client import Client


@dataclass(slots=True)
class Studio:
    """The sandbox with its accounts, and how a relay is run on any database that knows them."""

    client: Client
    media_url: str
    key: str
    publisher: PublisherSettings
    accounts: dict[str, str] = field(default_factory=dict)

    async def open_accounts(self, dsn: str) -> None:
        """Add an account of each platform to a database; the sandbox gets them too."""
        async with await database.connect(dsn, application_name="outbox-test") as connection:
            for platform in ("instagram", "facebook"):
                owner = await self.client.owner(platform)
                await add_account(
                    connection,
                    KeyRing(self.key),
                    platform=platform,
                    remote_id=owner.id,
                    name="greenhouse",
                    token=SecretStr(owner.token),
                )
                self.accounts[platform] = f"{platform}:{owner.id}"

    async def approve(self, dsn: str, platform: str, count: int = 1, *, publish_at: datetime | None = None) -> None:
        """Have an application create approved variants."""
        media_url = f"{self.media_url}/story.jpg"
        async with await AsyncConnection.connect(dsn, autocommit=True) as connection:
            for _ in range(count):
                await connection.execute(
                    "select social.create_variant(%s, %s, 'image', publish_at => %s)",
                    [self.accounts[platform], media_url, publish_at],
                )

    @asynccontextmanager
    async def relay(self, dsn: str, **changes: Any) -> AsyncIterator[str]:
        """Run a relay beside the block; gives the URL of its HTTP server."""
        stop = anyio.Event()
        factories = {"variant.created": partial(open_handler_with, settings=self.publisher)}
        async with app.serve(settings(dsn, **changes), stop, factories=factories) as url:
            try:
                yield url
            finally:
                stop.set()

    async def recover(self, dsn: str, *arguments: str) -> Answer:
        """Call `outbox recover`, as a person does."""

        def call() -> Answer:
            variables = {
                "OUTBOX_DSN": dsn,
                "PUBLISHER_GRAPH_URL": self.client.url,
                "PUBLISHER_TOKEN_KEYS": self.key,
                "PUBLISHER_PRIVATE_MEDIA": "true",
            }
            with started("recover", *arguments, **variables) as process:
                out, err = process.communicate(timeout=300)
                return Answer(process.returncode, out, err)

        return await anyio.to_thread.run_sync(call)

    async def live_count(self) -> int:
        """Return how many stories are really live."""
        return await self.client.live_count()


@asynccontextmanager
async def open_studio() -> AsyncIterator[Studio]:
    """Open a sandbox in which a repeated publish makes a second story, and a media server."""
    key = generate_key()
    sandbox_settings = SandboxSettings(port=0, image_seconds=(0, 0), quota_total=1000)
    async with (
        serve_sandbox(sandbox_settings) as sandbox,
        serve_files({"story.jpg": picture()}) as media_url,
        aiohttp.ClientSession() as session,
    ):
        client = Client(sandbox.url, session)
        await client.use(republish="duplicate")
        # Shorter than the shortest lease of a relay here, which has to outlive both.
        publisher = quick(publish_seconds=1, intent_seconds=0.5).model_copy(
            update={"graph_url": sandbox.url, "token_keys": SecretStr(key)}
        )
        yield Studio(client, media_url, key, publisher)


async def settled(dsn: str, count: int) -> None:
    """Return once so many events have a receipt."""
    async with await AsyncConnection.connect(dsn, autocommit=True) as connection:

        async def are() -> bool:
            return bool(await value(connection, "select count(*) from outbox.receipts") >= count)

        await eventually(are, seconds=300)


async def verifies_only(url: str) -> bool:
    """Whether a relay says that it stands still."""
    status, text = await get(f"{url}/readyz")
    return status == 503 and '"verify_only": true' in text


async def ready(url: str) -> bool:
    """Whether a relay works."""
    return (await get(f"{url}/readyz"))[0] == 200


def ask(dsn: str, query: str) -> Any:
    """The one value of a query."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]
