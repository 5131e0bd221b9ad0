"""An Instagram account in a sandbox, and the settings with which a relay publishes there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from pydantic import SecretStr

from outbox import database as connections
from publisher.accounts import add_account
from publisher.sandbox.server import serve
from publisher.sandbox.settings import SandboxSettings
from publisher.tokens import KeyRing, generate_key
from tests.publisher.stage import picture, serve_files
from tests.sandbox.client import Client


@dataclass(frozen=True, slots=True)
class Instagram:
    """An account, a picture for it, and what the publisher is to be told of both."""

    client: Client
    account: str
    media_url: str
    variables: dict[str, str]


@asynccontextmanager
async def open_instagram(dsn: str, *, image_seconds: float = 0) -> AsyncIterator[Instagram]:
    """Open a sandbox whose image containers take so long, and add an account of it to the database."""
    key = generate_key()
    async with (
        serve(SandboxSettings(port=0, image_seconds=(image_seconds, image_seconds))) as sandbox,
        serve_files({"a.jpg": picture()}) as media,
        aiohttp.ClientSession() as session,
        await connections.connect(dsn, application_name="test") as connection,
    ):
        client = Client(sandbox.url, session)
        owner = await client.owner("instagram")
        token = SecretStr(owner.token)
        await add_account(
            connection, KeyRing(key), platform="instagram", remote_id=owner.id, name="greenhouse", token=token
        )
        variables = {
            "PUBLISHER_GRAPH_URL": sandbox.url,
            "PUBLISHER_TOKEN_KEYS": key,
            "PUBLISHER_PRIVATE_MEDIA": "true",
            "PUBLISHER_IMAGE_POLL_SECONDS": "[0.02, 0.05]",
        }
        yield Instagram(client, f"instagram:{owner.id}", f"{media}/a.jpg", variables)
