"""What is emitted while things fail. What commits is told by the database afterwards, not by the writers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import LiteralString

import anyio
import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from outbox import database
from outbox.errors import DatabaseUnsuitable
from publisher.accounts import add_account
from publisher.tokens import KeyRing
from tests.chaos.ground import FILE_COUNT, Ground
from tests.chaos.ticks import EVENT_TYPE
from tests.publisher.kinds import KIND, Kind

WRITER_COUNT = 4
ACCOUNTS = ("instagram", "instagram", "instagram", "facebook", "facebook", "facebook")
FAULTS_AN_ACCOUNT = 10
"""The more faults, the longer variants are created: one account's day (400 containers, 30 reels of a Page) holds those
of so many faults, and what exceeds it would rightly wait for the next day."""

EMIT_TICK: LiteralString = """
select outbox.emit(
  %s, %s, key => %s, sequence => %s, publish_at => clock_timestamp() + %s * interval '1 second'
)
"""


async def open_accounts(ground: Ground, platforms: Sequence[str] = ACCOUNTS) -> list[str]:
    """Add accounts to the sandbox and to the database, and return their keys."""
    keys: list[str] = []
    async with await database.connect(ground.dsn, application_name="chaos") as connection:
        for number, platform in enumerate(platforms):
            owner = await ground.graph.owner(platform)
            await add_account(
                connection,
                KeyRing(ground.keys),
                platform=platform,
                remote_id=owner.id,
                name=f"greenhouse {number}",
                token=SecretStr(owner.token),
            )
            keys.append(f"{platform}:{owner.id}")
    return keys


async def write_ticks(ground: Ground, writer: int, dice: Random, stop: anyio.Event) -> None:
    """Emit ticks in transactions of some kinds, until told to stop. A key has one writer: ids are its order."""
    keys = [f"tick:{writer}:{number}" for number in range(4)]
    while not stop.is_set():
        try:
            async with await database.connect(ground.dsn, application_name="chaos") as connection:
                while not stop.is_set():
                    await _write_some(connection, keys, dice)
                    await anyio.sleep(dice.uniform(0.05, 0.3))
        except (psycopg.Error, DatabaseUnsuitable):
            await anyio.sleep(0.2)


async def create_variants(ground: Ground, accounts: list[str], dice: Random, stop: anyio.Event) -> None:
    """Create variants of all placements, each with a name of its own, until told to stop. One in doubt is left."""
    numbers = itertools.count()
    while not stop.is_set():
        try:
            async with await database.connect(ground.dsn, application_name="chaos") as connection:
                while not stop.is_set():
                    number = next(numbers) % FILE_COUNT
                    kind, account = choose(accounts, dice)
                    sequence = dice.choice((None, None, "slides"))
                    await connection.execute(*kind.variant(account, ground.media_url, f"{number}", sequence=sequence))
                    await anyio.sleep(dice.uniform(0.2, 0.6))
        except (psycopg.Error, DatabaseUnsuitable):
            await anyio.sleep(0.2)


def choose(accounts: Sequence[str], dice: Random) -> tuple[Kind, str]:
    """Return a kind of post, each that they can have as likely as another, and an account that can have it."""
    platforms = {account.partition(":")[0] for account in accounts}
    kind = dice.choice([kind for kind in KIND.values() if kind.platform in platforms])
    return kind, dice.choice([account for account in accounts if account.startswith(f"{kind.platform}:")])


async def _write_some(connection: AsyncConnection[tuple[object, ...]], keys: list[str], dice: Random) -> None:
    async with connection.transaction(force_rollback=dice.random() < 0.1):
        for _ in range(dice.randint(1, 4)):
            payload = {
                "retries": dice.choice((0, 0, 0, 0, 1, 2)),
                "deferrals": dice.choice((0, 0, 0, 0, 0, 1)),
            }
            key = dice.choice((*keys, None))
            sequence = None if key is None else dice.choice((None, "s", "t"))
            due_seconds = dice.choice((None, None, None, None, 0.5))
            await connection.execute(EMIT_TICK, [EVENT_TYPE, Jsonb(payload), key, sequence, due_seconds])
        await anyio.sleep(dice.choice((0, 0, 0, 0.5)))
