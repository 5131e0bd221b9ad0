"""Reads a variant by its primary key, and says what the database was like when it was not there.

The lookup and what describes it are one statement: the snapshot that is reported is the one that did not show the
row. A miss has few causes, and the context tells them apart: a replica, an old snapshot, row security, a row that is
gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import LiteralString, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, ConfigDict

from outbox.encode import encode_ids
from outbox.event import Event, EventId, JsonObject
from publisher.errors import VariantUnreadable
from publisher.placement import MediaType, Medium
from publisher.together import Together

LOOK_UP: LiteralString = """
select
  v.id, v.placement, v.status,
  coalesce(v.media, case when v.media_url is null then '[]' else jsonb_build_array(jsonb_build_object(
    'kind', v.media_type, 'url', v.media_url, 'upload', v.upload, 'alt_text', v.alt_text, 'user_tags', v.user_tags
  )) end),
  v.caption, v.link, v.collaborators, v.location_id, v.cover_url, v.thumb_offset_ms, v.share_to_feed, v.video_title,
  v.publish_at, v.expires_at,
  a.platform, a.remote_id, a.token_ciphertext,
  a.id = v.account_id or exists (
    select from social.variant_accounts as further where further.variant_id = v.id and further.account_id = a.id
  ),
  clock_timestamp(),
  case when v.id is null or a.id is null then jsonb_build_object(
    'is_in_recovery', pg_is_in_recovery(),
    'transaction_isolation', current_setting('transaction_isolation'),
    'current_role', current_user,
    'session_role', session_user,
    'variants_row_security', row_security_active('social.content_variants'),
    'accounts_row_security', row_security_active('social.accounts'),
    'snapshot', pg_current_snapshot()::text,
    'xact_id', pg_current_xact_id_if_assigned()::text,
    'backend_pid', pg_backend_pid(),
    'server_address', host(inet_server_addr()),
    'server_port', inet_server_port()
  ) end,
  app.percent, app.age_seconds, app.regain_seconds
from unnest(%(variant_ids)s::uuid[], %(account_ids)s::uuid[]) with ordinality as wanted (id, account_id, place)
left join lateral (
  select * from social.content_variants as c where c.id = wanted.id limit 1
) as v on true
left join lateral (
  select * from social.accounts as c where c.id = coalesce(wanted.account_id, v.account_id) limit 1
) as a on true
left join (
  select u.percent, extract(epoch from clock_timestamp() - u.read_at)::float8 as age_seconds,
    greatest(0, extract(epoch from u.held_until - u.read_at))::float8 as regain_seconds
  from social.usage as u
  where u.subject = 'app' and u.read_at > clock_timestamp() - interval '1 day'
) as app on true
order by wanted.place
"""
"""Each limit has the planner use the primary key, whatever it takes the tables to hold."""

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

# A list that lags shows another event's post as new: what that one could not name, since shortly before an intent, may
# be it. Stories are in a list of their own; an intent of the first release, which names no placement, is one.
UNNAMED_ELSEWHERE: LiteralString = """
select count(*)
from outbox.steps as d
where d.name = 'publish' and d.state = 'done' and d.detail @> '{"remote_id": null}'
  and d.created_at > %(intent_at)s - interval '20 minutes' and d.event_id <> %(event_id)s
  and exists (
    select from outbox.steps as i
    where i.event_id = d.event_id and i.state = 'intent' and i.detail ->> 'account' = %(account)s
      and (coalesce(i.detail ->> 'placement', 'story') = 'story') = %(is_story)s
      and i.created_at > %(intent_at)s - interval '20 minutes'
  )
  and not exists (select from social.found_posts as f where f.event_id = d.event_id)
"""

KNOWN_HANDLES: LiteralString = """
select detail ->> 'handle' from outbox.steps
where state = 'done' and detail ->> 'handle' = any(%(handles)s) and event_id <> %(event_id)s
"""

Connections = AsyncConnectionPool[AsyncConnection[TupleRow]]


class VariantCreated(BaseModel):
    """The payload of `variant.created`; what else it carries is for others.

    Attributes:
        variant_id: What is published.
        account_id: Where; the variant's first account, where older events leave it out.
        created_at: When the variant was created.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    variant_id: UUID
    account_id: UUID | None = None
    created_at: datetime | None = None


class Account(NamedTuple):
    """Who publishes."""

    platform: str
    remote_id: str
    token_ciphertext: bytes

    @property
    def key(self) -> str:
        """The key of its events: at most one of them is in flight."""
        return f"{self.platform}:{self.remote_id}"


class Variant(NamedTuple):
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
    publish_at: datetime | None = None
    expires_at: datetime | None = None


class Lookup(NamedTuple):
    """What one lookup found, and by what database.

    Attributes:
        variant: None where no row was visible.
        account: None where no row was visible.
        is_for_account: Whether the variant is for that account.
        read_at: When, by the database's clock.
        anchor: The same instant, by this process's monotonic one.
        context: What the database was like, where something was not visible.
    """

    variant: Variant | None
    account: Account | None
    is_for_account: bool
    read_at: datetime
    anchor: float
    context: JsonObject | None

    def now(self) -> datetime:
        """Return the database's clock, carried on by the monotonic one."""
        return self.read_at + timedelta(seconds=time.monotonic() - self.anchor)


@dataclass(slots=True)
class Variants:
    """Looks variants and their accounts up, both by primary key; many may ask at once.

    Attributes:
        connections: To where they are.
        hear_of_app: Takes what the statement says of the app's usage beside: percent, how old, how long calls are
            refused.
    """

    connections: Connections
    hear_of_app: Callable[[int, float, float], None] | None = None
    _together: Together[VariantCreated, tuple[TupleRow, float]] = field(init=False)

    def __post_init__(self) -> None:
        self._together = Together(self._read)

    async def look_up(self, created: VariantCreated) -> Lookup:
        """Read one, with the statement that is for all who ask until it begins.

        Raises:
            VariantUnreadable: Its media are in no shape that can be published.
        """
        row, anchor = await self._together.ask(created)
        return _lookup(row, anchor)

    async def _read(self, wanted: Sequence[VariantCreated]) -> list[tuple[TupleRow, float]]:
        arguments = {
            "variant_ids": encode_ids(created.variant_id for created in wanted),
            "account_ids": encode_ids(created.account_id for created in wanted),
        }
        async with self.connections.connection() as connection:
            rows = await (await connection.execute(LOOK_UP, arguments, prepare=True)).fetchall()
        anchor = time.monotonic()
        *_, percent, age_seconds, regain_seconds = rows[0]
        if self.hear_of_app is not None and percent is not None:
            self.hear_of_app(percent, age_seconds, regain_seconds)
        return [(row[:-3], anchor) for row in rows]


def _lookup(row: TupleRow, anchor: float) -> Lookup:
    variant_id, placement, status, media, *more, platform, remote_id, token_ciphertext, is_for, read_at, context = row
    variant = account = None
    if variant_id is not None:
        try:
            variant = Variant(variant_id, placement, status, tuple(map(_medium, media)), *more)
        except (AttributeError, KeyError, TypeError, ValueError):
            # The constraints of an older release saw through a list around a medium; some JSON can't be read at all.
            raise VariantUnreadable(
                f"expected each medium of variant {variant_id} to be an object with a kind and a URL, found another "
                "shape; create another variant"
            ) from None
    if platform is not None:
        account = Account(platform, remote_id, bytes(token_ciphertext))
    return Lookup(variant, account, bool(is_for), read_at, anchor, context)


def _medium(item: JsonObject) -> Medium:
    url, alt_text, upload = item["url"], item.get("alt_text"), item.get("upload")
    if not isinstance(url, str) or not isinstance(alt_text, str | None) or not isinstance(upload, bool | None):
        raise TypeError
    return Medium(
        media_type=MediaType(item["kind"]),
        url=url,
        upload=bool(upload),
        alt_text=alt_text,
        user_tags=item.get("user_tags"),
    )


def describe(event: Event, created: VariantCreated, lookup: Lookup) -> JsonObject:
    """Return what to keep of a lookup: the database, how long before it all was written, and what was missing."""
    context = (lookup.context or {}) | {
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


async def unnamed_elsewhere(
    connections: Connections, event_id: EventId, account: str, intent_at: datetime, *, is_story: bool
) -> int:
    """Count other events of an account that were published since shortly before an intent, nobody knows as what.

    Only those in the list in which it would be: the stories', or the posts'.
    """
    arguments = {"event_id": event_id, "account": account, "intent_at": intent_at, "is_story": is_story}
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
