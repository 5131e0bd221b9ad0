"""Sets the stage: the database and its roles, the media server, the sandbox with its accounts and faults, the relay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, LiteralString

import aiohttp
import anyio
import psycopg
from pydantic import SecretStr

from outbox import database
from outbox.errors import OutboxError
from publisher.accounts import add_account
from publisher.handler import open_handler_with
from publisher.sandbox.server import serve as serve_sandbox
from publisher.tokens import KeyRing, generate_key
from relay import app
from relay.demo import media
from relay.demo.dispatches import Dispatches
from relay.demo.script import ACCOUNTS, STORIES, TROUBLES, Account
from relay.demo.settings import publisher_settings, relay_settings, sandbox_settings
from schema.embedded import SUPERUSER, EmbeddedPostgres
from schema.migrate import migrate

DATABASE: Final = "demo"
POSTGRES_SETTINGS: Final = {"track_commit_timestamp": "on"}

READY_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.05

CREATE_ROLES: LiteralString = """
create role application login in role outbox_emitter;
create role relay login in role outbox_relay;
create role operator login in role outbox_operator;
grant select (id), update (status) on social.content_variants to application;
"""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The database, as each of its roles reaches it."""

    application: str
    relay: str
    operator: str


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs.

    Attributes:
        addresses: The database's.
        media_url: The media server's.
        sandbox: The sandbox's control API.
        relay_url: Where /metrics is.
        keys: The key of each account: platform and id.
        dispatches: The relay's calls of its handler.
    """

    addresses: Addresses
    media_url: str
    sandbox: SandboxControl
    relay_url: str
    keys: dict[Account, str]
    dispatches: Dispatches


@dataclass(frozen=True, slots=True)
class SandboxControl:
    """The control API of the sandbox, over HTTP like anybody's."""

    url: str
    session: aiohttp.ClientSession

    async def get(self, path: str) -> Any:
        """Ask."""
        return await self._call("GET", path, None)

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """Order."""
        return await self._call("POST", path, body)

    async def metrics(self, relay_url: str) -> str:
        """Return what the relay exposes; the same client serves."""
        async with self.session.get(f"{relay_url}/metrics") as response:
            return await response.text()

    async def _call(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        async with self.session.request(method, f"{self.url}/_sandbox/{path}", json=body) as response:
            answer = await response.json()
            if response.status != 200:
                raise OutboxError(f"expected the sandbox to take {method} {path}, found: {answer.get('error')}")
            return answer


def prepare(postgres: EmbeddedPostgres) -> Addresses:
    """Make the database: schema and roles. Raises SchemaError."""
    dsn = postgres.create_database(DATABASE)
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(CREATE_ROLES)
    return Addresses(*(_address(dsn, role) for role in ("application", "relay", "operator")))


@asynccontextmanager
async def set_stage(addresses: Addresses, tell: Callable[[str], None]) -> AsyncIterator[Stage]:
    """Run media server, sandbox and relay until the end of the block.

    Args:
        addresses: The database's.
        tell: Takes a line for each part that runs.

    Raises:
        OutboxError: A part can't start; one sentence.
        SandboxError: The same.
    """
    token_key = generate_key()
    async with (
        aiohttp.ClientSession() as session,
        media.serve() as media_url,
        serve_sandbox(sandbox_settings()) as sandbox,
    ):
        control = SandboxControl(sandbox.url, session)
        tell(f"Graph API sandbox and media server on {sandbox.url} and {media_url}")
        keys = await _add_accounts(control, addresses.operator, KeyRing(token_key))
        await _script_troubles(control)
        tell(f"{len(ACCOUNTS)} accounts added, {len(TROUBLES)} faults scripted")
        publisher = publisher_settings(sandbox.url, token_key)
        dispatches, stop = Dispatches(), anyio.Event()
        factories = {"variant.created": dispatches.of(partial(open_handler_with, settings=publisher))}
        async with app.serve(relay_settings(addresses.relay), stop, factories=factories) as relay_url:
            try:
                await _await_ready(session, relay_url)
                tell(f"relay ready, with {relay_url}/metrics")
                yield Stage(addresses, media_url, control, relay_url, keys, dispatches)
            finally:
                stop.set()


async def _add_accounts(control: SandboxControl, dsn: str, ring: KeyRing) -> dict[Account, str]:
    """Add the accounts at the sandbox, and to the outbox as an operator would."""
    keys = {}
    async with await database.connect(dsn, application_name="demo-accounts") as connection:
        for account in ACCOUNTS:
            remote = await control.post("accounts", {"platform": account.platform, "name": account.name})
            added, _ = await add_account(
                connection,
                ring,
                platform=account.platform,
                remote_id=remote["id"],
                name=account.name,
                token=SecretStr(remote["token"]),
            )
            keys[account] = added.key
    return keys


async def _script_troubles(control: SandboxControl) -> None:
    media_of = {story.number: story.file_name for story in STORIES}
    for trouble in TROUBLES:
        await control.post("faults", {"endpoint": trouble.endpoint, "media": media_of[trouble.number], **trouble.fault})


async def _await_ready(session: aiohttp.ClientSession, relay_url: str) -> None:
    try:
        with anyio.fail_after(READY_SECONDS):
            while True:
                async with session.get(f"{relay_url}/readyz") as response:
                    if response.status == 200:
                        return
                await anyio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise OutboxError(f"expected the relay to be ready after {READY_SECONDS:g} s, found it is not") from None


def _address(dsn: str, role: str) -> str:
    """The DSN for another role, as a URI that can be pasted."""
    return dsn.replace(f"{SUPERUSER}@", f"{role}@", 1)
