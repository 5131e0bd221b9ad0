"""The publishing accounts, as people add and list them. Tokens go in and never come out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row
from pydantic import SecretStr

from publisher.allowance import CONTAINERS_MAX, PAGE_REELS_MAX, look
from publisher.errors import AccountInvalid, TokenUnreadable
from publisher.tokens import KeyRing, is_instagram_login

ADD: LiteralString = """
insert into social.accounts (platform, remote_id, name, token_ciphertext, token_expires_at, token_refresh_at)
values (
  %(platform)s, %(remote_id)s, %(name)s, %(token_ciphertext)s, %(token_expires_at)s,
  case when %(is_refreshable)s then clock_timestamp() + interval '1 day' end
)
on conflict (platform, remote_id) do update
set
  name = %(name)s,
  token_ciphertext = %(token_ciphertext)s,
  token_set_at = clock_timestamp(),
  token_expires_at = %(token_expires_at)s,
  token_refresh_at = case when %(is_refreshable)s then clock_timestamp() + interval '1 day' end
returning id, platform, remote_id, name, token_set_at, created_at
"""

RELEASE: LiteralString = """
select outbox.release(h.key, %(reason)s) from outbox.holds as h
where h.scope = 'key' and h.key = %(key)s and h.reason in ('token', 'account')
"""
"""What Meta refused the old token for: a hold of a person's, or until a limit's end, stands."""

LIST: LiteralString = """
select id, platform, remote_id, name, token_set_at, created_at from social.accounts order by platform, name, remote_id
"""

SHOW: LiteralString = """
select s.key, s.name, s.token_state, s.token_set_at, s.token_expires_at, s.token_refresh_at, s.token_refreshed_at,
  s.quota_state, s.percent, s.read_at, s.quota_usage, s.quota_total, s.quota_read_at,
  nullif(s.held_until, 'infinity') as held_until, s.held_because,
  app.percent as app_percent, app.read_at as app_read_at, s.created_at
from social.account_states as s
left join social.usage as app on app.subject = 'app'
where s.key = %(key)s
"""

LOCK: LiteralString = """
select a.id, a.platform || ':' || a.remote_id, a.token_ciphertext from social.accounts as a order by a.id for update
"""

RENEW: LiteralString = "update social.accounts set token_ciphertext = %(token_ciphertext)s where id = %(id)s"

REASON: LiteralString = "select set_config('outbox.reason', coalesce(%(reason)s, ''), true)"


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
        return key_of(self.platform, self.remote_id)


@dataclass(frozen=True, slots=True)
class AccountState:
    """How an account stands, as `social.account_states` has it; `app_percent` is the whole app's.

    What is counted by our own steps, of the last 24 hours: containers of an Instagram account, reels of a Page.
    """

    key: str
    name: str
    token_state: str
    token_set_at: datetime
    token_expires_at: datetime | None
    token_refresh_at: datetime | None
    token_refreshed_at: datetime | None
    quota_state: str
    percent: int | None
    read_at: datetime | None
    quota_usage: int | None
    quota_total: int | None
    quota_read_at: datetime | None
    held_until: datetime | None
    held_because: str | None
    app_percent: int | None
    app_read_at: datetime | None
    created_at: datetime
    container_count: int | None = None
    container_max: int | None = None
    reel_count: int | None = None
    reel_max: int | None = None


@dataclass(frozen=True, slots=True)
class Rotation:
    """Which tokens were encrypted anew, which no key opens, and how many have the first key already; by key."""

    renewed: list[str]
    unreadable: list[str]
    kept_count: int


async def add_account(
    connection: AsyncConnection[TupleRow],
    keys: KeyRing,
    *,
    platform: str,
    remote_id: str,
    name: str,
    token: SecretStr,
    expires_at: datetime | None = None,
    reason: str | None = None,
    dry_run: bool = False,
) -> tuple[ListedAccount, int]:
    """Add an account, or give it a new token and name; what is held for it goes on. In one transaction.

    Args:
        connection: Where.
        keys: The first one encrypts.
        platform: instagram or facebook.
        remote_id: Its id at Meta.
        name: For people.
        token: Its token; one of Instagram Login is refreshed by a relay once it is a day old.
        expires_at: When the token expires, where that is known.
        reason: Why, for those who read the audit later.
        dry_run: Do all that and roll it back.

    Returns:
        The account, and how many events go on at once.

    Raises:
        AccountInvalid: No such platform, an id that is not digits, or an empty name or token.
    """
    check_account(platform, remote_id, name, token)
    token = SecretStr(token.get_secret_value().strip())
    arguments = {
        "platform": platform,
        "remote_id": remote_id,
        "name": name,
        "token_ciphertext": keys.encrypt(token),
        "token_expires_at": expires_at,
        "is_refreshable": is_instagram_login(token),
    }
    async with (
        connection.transaction(force_rollback=dry_run),
        connection.cursor(row_factory=class_row(ListedAccount)) as cursor,
    ):
        await connection.execute(REASON, {"reason": reason})
        account = await (await cursor.execute(ADD, arguments)).fetchone()
        assert account is not None
        released = await (await connection.execute(RELEASE, {"key": account.key, "reason": reason})).fetchone()
    return account, int(released[0]) if released is not None else 0


async def rotate_keys(
    connection: AsyncConnection[TupleRow], keys: KeyRing, *, reason: str | None = None, dry_run: bool = False
) -> Rotation:
    """Encrypt all tokens with the first key that are not; in one transaction, each a row of the audit.

    Running it again changes nothing. It needs the role `outbox_relay`, or the owner's: an operator reads no tokens.
    """
    renewed, unreadable, kept_count = [], [], 0
    async with connection.transaction(force_rollback=dry_run):
        await connection.execute(REASON, {"reason": reason})
        for account_id, key, ciphertext in await (await connection.execute(LOCK)).fetchall():
            try:
                fresh = keys.renew(bytes(ciphertext))
            except TokenUnreadable:
                unreadable.append(key)
                continue
            if fresh is None:
                kept_count += 1
                continue
            await connection.execute(RENEW, {"id": account_id, "token_ciphertext": fresh})
            renewed.append(key)
    return Rotation(renewed, unreadable, kept_count)


async def show_account(connection: AsyncConnection[TupleRow], key: str) -> AccountState:
    """Return how an account stands.

    Raises:
        AccountInvalid: There is none with this key.
    """
    async with connection.cursor(row_factory=class_row(AccountState)) as cursor:
        found = await (await cursor.execute(SHOW, {"key": key})).fetchone()
    if found is None:
        raise AccountInvalid(f"expected the key of an account, found {key}; outbox accounts list has them")
    [used] = await look(connection, [key])
    if key.startswith("instagram:"):
        return replace(found, container_count=len(used.containers), container_max=CONTAINERS_MAX)
    return replace(found, reel_count=len(used.reels), reel_max=PAGE_REELS_MAX)


async def list_accounts(connection: AsyncConnection[TupleRow]) -> list[ListedAccount]:
    """Return all accounts, without their tokens."""
    async with connection.cursor(row_factory=class_row(ListedAccount)) as cursor:
        return await (await cursor.execute(LIST)).fetchall()


def key_of(platform: str, remote_id: str) -> str:
    """Return the key of an account's events."""
    return f"{platform}:{remote_id}"


def check_account(platform: str, remote_id: str, name: str, token: SecretStr) -> None:
    """Refuse what can't be an account. Raises AccountInvalid."""
    if platform not in {"instagram", "facebook"}:
        raise AccountInvalid(f"expected the platform instagram or facebook, found {platform}")
    if not (remote_id.isascii() and remote_id.isdecimal()):
        raise AccountInvalid(f"expected the account's id at Meta, digits only, found {remote_id}")
    if not name.strip():
        raise AccountInvalid("expected a name for people, found none")
    if not token.get_secret_value().strip():
        raise AccountInvalid("expected an access token, found none")
