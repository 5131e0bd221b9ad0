"""Reads a variant by its primary key, and says what the database was like when it was not there.

The lookup and what describes it are one statement: the snapshot that is reported is the one that did not show the
row. A miss has few causes, and the context tells them apart: a replica, an old snapshot, row security, a row that is
gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, dict_row
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, ConfigDict

from outbox.event import Event, EventId, JsonObject
from publisher.placement import MediaType, Medium

LOOK_UP: LiteralString = """
select
  v.id as variant_id, v.placement, v.status, v.caption, v.link, v.collaborators, v.location_id, v.cover_url,
  v.thumb_offset_ms, v.share_to_feed, v.video_title,
  coalesce(v.media, case when v.media_url is null then '[]' else jsonb_build_array(jsonb_build_object(
    'kind', v.media_type, 'url', v.media_url, 'upload', v.upload, 'alt_text', v.alt_text, 'user_tags', v.user_tags
  )) end) as media,
  a.id = v.account_id or exists (
    select from social.variant_accounts as further where further.variant_id = v.id and further.account_id = a.id
  ) as is_for_account,
  a.id as found_account_id, a.platform, a.remote_id, a.token_ciphertext,
  clock_timestamp() as read_at,
  pg_is_in_recovery() as is_in_recovery,
  current_setting('transaction_isolation') as transaction_isolation,
  current_user::text as current_role,
  session_user::text as session_role,
  row_security_active('social.content_variants') as variants_row_security,
  row_security_active('social.accounts') as accounts_row_security,
  pg_current_snapshot()::text as snapshot,
  pg_current_xact_id_if_assigned()::text as xact_id,
  pg_backend_pid() as backend_pid,
  host(inet_server_addr()) as server_address,
  inet_server_port() as server_port
from (values (%(variant_id)s::uuid, %(account_id)s::uuid)) as wanted (id, account_id)
left join social.content_variants as v on v.id = wanted.id
left join social.accounts as a on a.id = coalesce(wanted.account_id, v.account_id)
"""

COUNT_MISSES: LiteralString = """
select count(*) from outbox.attempts where event_id = %(event_id)s and context ? 'missing'
"""

KNOWN_ELSEWHERE: LiteralString = """
select detail ->> 'remote_id'
from outbox.steps
where state = 'done' and detail ? 'remote_id'
  and detail ->> 'remote_id' = any(%(remote_ids)s) and event_id <> %(event_id)s
union all
select remote_id from social.found_posts where remote_id = any(%(remote_ids)s) and event_id <> %(event_id)s
"""

# A list that lags shows another event's post as new: around an intent, whatever that one could not name may be it.
UNNAMED_ELSEWHERE: LiteralString = """
select count(*)
from outbox.steps as d
where d.name = 'publish' and d.state = 'done' and d.detail @> '{"remote_id": null}'
  and d.created_at > %(intent_at)s - interval '20 minutes' and d.event_id <> %(event_id)s
  and exists (
    select from outbox.steps as i
    where i.event_id = d.event_id and i.state = 'intent' and i.detail ->> 'account' = %(account)s
      and i.created_at > %(intent_at)s - interval '20 minutes'
  )
  and not exists (select from social.found_posts as f where f.event_id = d.event_id)
"""

KNOWN_HANDLES: LiteralString = """
select detail ->> 'handle' from outbox.steps
where state = 'done' and detail ->> 'handle' = any(%(handles)s) and event_id <> %(event_id)s
"""

CONTEXT = (
    "is_in_recovery",
    "transaction_isolation",
    "current_role",
    "session_role",
    "variants_row_security",
    "accounts_row_security",
    "snapshot",
    "xact_id",
    "backend_pid",
    "server_address",
    "server_port",
)

AS_THEY_ARE = (
    "placement",
    "status",
    "caption",
    "link",
    "collaborators",
    "location_id",
    "cover_url",
    "thumb_offset_ms",
    "share_to_feed",
    "video_title",
)

Connections = AsyncConnectionPool[AsyncConnection[TupleRow]]


class VariantCreated(BaseModel):
    """The payload of `variant.created`; what else it carries is for others.

    Attributes:
        variant_id: What is published.
        account_id: Where, for a further account of the variant; else its first one.
        created_at: When the variant was created.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    variant_id: UUID
    account_id: UUID | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """Who publishes."""

    platform: str
    remote_id: str
    token_ciphertext: bytes

    @property
    def key(self) -> str:
        """The key of its events: at most one of them is in flight."""
        return f"{self.platform}:{self.remote_id}"


@dataclass(frozen=True, slots=True)
class Variant:
    """What is published, as `social.content_variants` has it; `media` holds one medium, several or none."""

    id: UUID
    placement: str
    status: str
    media: tuple[Medium, ...]
    caption: str | None = None
    link: str | None = None
    collaborators: list[str] | None = None
    location_id: str | None = None
    cover_url: str | None = None
    thumb_offset_ms: int | None = None
    share_to_feed: bool | None = None
    video_title: str | None = None


@dataclass(frozen=True, slots=True)
class Lookup:
    """What one lookup found, and by what database.

    Attributes:
        variant: None where no row was visible.
        account: None where no row was visible.
        is_for_account: Whether the variant is for that account.
        read_at: When, by the database's clock.
        now: That clock, carried on by this process's monotonic one.
        context: What the database was like.
    """

    variant: Variant | None
    account: Account | None
    is_for_account: bool
    read_at: datetime
    now: Callable[[], datetime]
    context: JsonObject


async def look_up(connections: Connections, created: VariantCreated) -> Lookup:
    """Read a variant and its account, both by primary key."""
    async with connections.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(LOOK_UP, {"variant_id": created.variant_id, "account_id": created.account_id})
        row = await cursor.fetchone()
    anchor = time.monotonic()
    assert row is not None
    read_at: datetime = row["read_at"]
    variant = account = None
    if row["variant_id"] is not None:
        variant = Variant(
            id=row["variant_id"],
            media=tuple(_medium(item) for item in row["media"]),
            **{name: row[name] for name in AS_THEY_ARE},
        )
    if row["found_account_id"] is not None:
        account = Account(row["platform"], row["remote_id"], bytes(row["token_ciphertext"]))
    return Lookup(
        variant=variant,
        account=account,
        is_for_account=bool(row["is_for_account"]),
        read_at=read_at,
        now=lambda: read_at + timedelta(seconds=time.monotonic() - anchor),
        context={name: row[name] for name in CONTEXT},
    )


def _medium(item: JsonObject) -> Medium:
    return Medium(
        media_type=MediaType(item["kind"]),
        url=item["url"],
        upload=bool(item.get("upload")),
        alt_text=item.get("alt_text"),
        user_tags=item.get("user_tags"),
    )


def describe(event: Event, created: VariantCreated, lookup: Lookup) -> JsonObject:
    """Return what to keep of a lookup: the database, how long before it all was written, and what was missing."""
    context = lookup.context | {
        "variant_id": str(created.variant_id),
        "event_to_read_seconds": (lookup.read_at - event.created_at).total_seconds(),
    }
    if created.created_at is not None:
        context["variant_to_event_seconds"] = (event.created_at - created.created_at).total_seconds()
    if lookup.variant is None or lookup.account is None:
        context["missing"] = "variant" if lookup.variant is None else "account"
    return context


async def count_misses(connections: Connections, event_id: EventId) -> int:
    """Return how often this event has missed its variant or account before."""
    async with connections.connection() as connection:
        row = await (await connection.execute(COUNT_MISSES, {"event_id": event_id})).fetchone()
    return int(row[0]) if row is not None else 0


async def known_elsewhere(connections: Connections, event_id: EventId, remote_ids: Sequence[str]) -> frozenset[str]:
    """Return those of some remote ids that other events published."""
    if not remote_ids:
        return frozenset()
    async with connections.connection() as connection:
        arguments = {"remote_ids": list(remote_ids), "event_id": event_id}
        rows = await (await connection.execute(KNOWN_ELSEWHERE, arguments)).fetchall()
    return frozenset(row[0] for row in rows)


async def unnamed_elsewhere(connections: Connections, event_id: EventId, account: str, intent_at: datetime) -> int:
    """Return how many other events of an account were published around an intent, and nobody knows as which post."""
    arguments = {"event_id": event_id, "account": account, "intent_at": intent_at}
    async with connections.connection() as connection:
        row = await (await connection.execute(UNNAMED_ELSEWHERE, arguments)).fetchone()
    assert row is not None
    return int(row[0])


async def handles_elsewhere(connections: Connections, event_id: EventId, handles: Sequence[str]) -> frozenset[str]:
    """Return those of some handles that other events prepared."""
    if not handles:
        return frozenset()
    async with connections.connection() as connection:
        arguments = {"handles": list(handles), "event_id": event_id}
        rows = await (await connection.execute(KNOWN_HANDLES, arguments)).fetchall()
    return frozenset(row[0] for row in rows)
