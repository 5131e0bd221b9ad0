"""The publishing accounts, as people add and list them. Tokens go in and never come out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row
from pydantic import SecretStr

from publisher.errors import AccountInvalid
from publisher.tokens import KeyRing

ADD: LiteralString = """
insert into social.accounts (platform, remote_id, name, token_ciphertext)
values (%(platform)s, %(remote_id)s, %(name)s, %(token_ciphertext)s)
on conflict (platform, remote_id) do update
set name = %(name)s, token_ciphertext = %(token_ciphertext)s, token_set_at = clock_timestamp()
returning id, platform, remote_id, name, token_set_at, created_at
"""

RELEASE: LiteralString = "select outbox.release(%(key)s)"

LIST: LiteralString = """
select id, platform, remote_id, name, token_set_at, created_at from social.accounts order by platform, name, remote_id
"""


@dataclass(frozen=True, slots=True)
class ListedAccount:
    """An account without its token."""

    id: UUID
    platform: str
    remote_id: str
    name: str
    token_set_at: datetime
    created_at: datetime

    @property
    def key(self) -> str:
        """The key of its events, and what `outbox.hold` and `outbox.release` take."""
        return f"{self.platform}:{self.remote_id}"


async def add_account(
    connection: AsyncConnection[TupleRow], keys: KeyRing, *, platform: str, remote_id: str, name: str, token: SecretStr
) -> tuple[ListedAccount, int]:
    """Add an account, or give it a new token and name; what is held for it goes on. In one transaction.

    Returns:
        The account, and how many events go on at once.

    Raises:
        AccountInvalid: No such platform, an id that is not digits, or an empty name or token.
    """
    _check(platform, remote_id, name, token)
    arguments = {
        "platform": platform,
        "remote_id": remote_id,
        "name": name,
        "token_ciphertext": keys.encrypt(SecretStr(token.get_secret_value().strip())),
    }
    async with connection.transaction(), connection.cursor(row_factory=class_row(ListedAccount)) as cursor:
        account = await (await cursor.execute(ADD, arguments)).fetchone()
        assert account is not None
        released = await (await connection.execute(RELEASE, {"key": account.key})).fetchone()
    return account, int(released[0]) if released is not None else 0


async def list_accounts(connection: AsyncConnection[TupleRow]) -> list[ListedAccount]:
    """Return all accounts, without their tokens."""
    async with connection.cursor(row_factory=class_row(ListedAccount)) as cursor:
        return await (await cursor.execute(LIST)).fetchall()


def _check(platform: str, remote_id: str, name: str, token: SecretStr) -> None:
    if platform not in {"instagram", "facebook"}:
        raise AccountInvalid(f"expected the platform instagram or facebook, found {platform}")
    if not (remote_id.isascii() and remote_id.isdecimal()):
        raise AccountInvalid(f"expected the account's id at Meta, digits only, found {remote_id}")
    if not name.strip():
        raise AccountInvalid("expected a name for people, found none")
    if not token.get_secret_value().strip():
        raise AccountInvalid("expected an access token, found none")
