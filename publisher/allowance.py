"""What an account may still publish within 24 hours, and when the next one may be.

| limit                            | of                                 | known from                                  |
|----------------------------------|------------------------------------|---------------------------------------------|
| `quota_total` publishes          | an Instagram account (sheet 1.7)   | `content_publishing_limit`; ours by steps   |
| 400 containers                   | an Instagram account (sheet 1.2)   | our own steps                               |
| 30 reels                         | a Page (sheet 2.5)                 | our own steps                               |

All windows roll: each publish frees its place 24 hours later. So an event that finds no place is put off to the instant
at which one becomes free, and those behind it to the next ones, in their order. That costs no attempt.

Far from a limit nothing is asked: a look says how many may follow without another one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import LiteralString

import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row
from pydantic import SecretStr

from outbox.event import EventId
from outbox.outcome import Defer, Reason
from publisher.errors import GraphError, NoAnswer
from publisher.graph import GraphClient
from publisher.placement import Endpoint, Placement
from publisher.together import Together
from publisher.variants import Account, Connections

DAY = 86_400.0
CONTAINERS_MAX = 400
PAGE_REELS_MAX = 30
QUOTA_MAX = 1_000_000
"""A larger figure is none: limits are in the hundreds (sheet 1.7)."""
NEAR = 0.8
"""From this share of a limit on, each publish is preceded by a look."""
ASK_SECONDS = 60.0
ASK_FULL_SECONDS = 10.0
LOOK_SECONDS = 600.0
STEP_SECONDS = 3600.0
"""Where nobody knows when a place becomes free, by the hour (sheet 4.3, 9/2207042)."""
MARGIN_SECONDS = 5.0
NO_PLACE = "expected a free place among the account's {what} of 24 hours, found none"
"""Why an event waits, by which those that wait for a place are known from those that wait for the pace or a host."""

log = structlog.get_logger()

LOOK: LiteralString = """
select used.containers, used.publishes, used.reels,
  u.quota_usage, u.quota_total, extract(epoch from clock_timestamp() - u.quota_read_at)::float8 as quota_age
from unnest(%(accounts)s::text[]) with ordinality as wanted (account, place)
cross join lateral (
  with own as materialized (
    select s.event_id, s.state, s.position, s.detail ->> 'placement' as placement,
      extract(epoch from clock_timestamp() - s.created_at)::float8 as age
    from outbox.steps as s
    where s.detail ? 'account' and s.detail ->> 'account' = wanted.account
      and s.created_at > clock_timestamp() - interval '1 day'
  ), published as (
    select o.event_id, min(o.age) as age, bool_or(o.placement = 'reel') as is_reel
    from own as o
    where o.state = 'intent' and exists (
      select from outbox.steps as d
      where d.event_id = o.event_id and d.position > o.position and d.name = 'publish' and d.state = 'done'
    )
    group by o.event_id
  )
  select
    array(select o.age from own as o where o.state = 'done' order by o.age desc) as containers,
    array(select p.age from published as p order by p.age desc) as publishes,
    array(select p.age from published as p where p.is_reel order by p.age desc) as reels
) as used
left join social.usage as u on u.subject = wanted.account
order by wanted.place
"""

RANK: LiteralString = """
select count(*) from (
  select from outbox.waiting as w
  where w.key = %(account)s and w.reason = 'rate_limited' and w.error = %(why)s and w.event_id < %(event_id)s
  limit 10000
) as earlier
"""

STORE: LiteralString = """
insert into social.usage as u (subject, quota_usage, quota_total, quota_read_at)
select *, clock_timestamp() from unnest(%(accounts)s::text[], %(usages)s::integer[], %(totals)s::integer[])
on conflict (subject) do update
set quota_usage = excluded.quota_usage, quota_total = excluded.quota_total, quota_read_at = excluded.quota_read_at
"""


@dataclass(frozen=True, slots=True)
class Used:
    """What an account has used up in the last 24 hours; ages in seconds, the oldest first.

    Attributes:
        containers: Of the containers that we made.
        publishes: Of our posts that went live.
        reels: Of those, the reels.
        quota_usage: What Meta said, of whoever published it.
        quota_total: The same.
        quota_age: How long ago it said so; None where it was never asked.
    """

    containers: list[float]
    publishes: list[float]
    reels: list[float]
    quota_usage: int | None
    quota_total: int | None
    quota_age: float | None

    def publish_count(self) -> int:
        """How many publishes count now: what Meta said and what we published since, or ours if those are more."""
        ours = len(self.publishes)
        if self.quota_usage is None or self.quota_age is None or self.quota_age > DAY:
            return ours
        since = sum(1 for age in self.publishes if age < self.quota_age)
        return max(ours, self.quota_usage + since)


async def look(connection: AsyncConnection[TupleRow], accounts: Sequence[str]) -> list[Used]:
    """Return what accounts, named by their keys, have used up, in their order."""
    async with connection.cursor(row_factory=class_row(Used)) as cursor:
        return await (await cursor.execute(LOOK, {"accounts": list(accounts)})).fetchall()


def place_seconds(ages: Sequence[float], count: int, total: int, rank: int) -> float:
    """Return in how long an event may be published that finds no place.

    Args:
        ages: Of what we published in the window, the oldest first.
        count: How many publishes count; more than ours where somebody else published too, nobody knows when.
        total: How many there may be.
        rank: How many earlier events wait for a place.
    """
    nth = count - total + rank
    if nth >= len(ages):
        return STEP_SECONDS
    ours = max(DAY - ages[nth], 0.0) + MARGIN_SECONDS
    return ours if count <= len(ages) else min(ours, STEP_SECONDS)


@dataclass(slots=True)
class Passes:
    """How many may go without another look, and until when."""

    count: int = 0
    until: float = 0.0

    def take(self) -> bool:
        """Use one up, if there is one."""
        if self.count <= 0 or time.monotonic() > self.until:
            return False
        self.count -= 1
        return True


@dataclass(slots=True)
class Allowances:
    """Knows of all accounts how far they are from their limits. One event of an account is in flight at a time."""

    connections: Connections
    _containers: dict[str, Passes] = field(default_factory=dict)
    _publishes: dict[str, Passes] = field(default_factory=dict)
    _looks: Together[str, Used] = field(init=False)
    _asks: Together[tuple[str, int, int], None] = field(init=False)

    def __post_init__(self) -> None:
        self._looks, self._asks = Together(self._look), Together(self._store)

    async def admit_container(self, allowance: Allowance) -> Defer | None:
        """Tell whether the account may make another container now; None: it may."""
        account = allowance.account.key
        passes = self._containers.setdefault(account, Passes())
        if passes.take():
            return None
        allowance.seen = await self._looks.ask(account)
        used = allowance.seen.containers
        if len(used) >= CONTAINERS_MAX:
            return await self._defer(
                account, allowance.event_id, "containers", ages=used, count=len(used), total=CONTAINERS_MAX
            )
        passes.count = int(CONTAINERS_MAX * NEAR) - len(used) - 1
        passes.until = time.monotonic() + LOOK_SECONDS
        return None

    async def admit_publish(self, allowance: Allowance, *, is_page_reel: bool) -> Defer | None:
        """Tell whether the account may publish now; None: it may."""
        account, event_id = allowance.account.key, allowance.event_id
        passes = self._publishes.setdefault(f"{account} reels" if is_page_reel else account, Passes())
        if passes.take():
            return None
        # Nothing of the account goes live between the look at its containers and this one.
        used = allowance.seen or await self._looks.ask(account)
        ages = used.reels if is_page_reel else used.publishes
        count, total = (len(ages), PAGE_REELS_MAX) if is_page_reel else await self._asked(allowance, used)
        if total is not None and count >= total:
            what = "reels" if is_page_reel else "publishes"
            return await self._defer(account, event_id, what, ages=ages, count=count, total=total)
        passes.count = 0 if total is None else int(total * NEAR) - count - 1
        passes.until = time.monotonic() + LOOK_SECONDS
        return None

    async def place_seconds(self, allowance: Allowance) -> float | None:
        """Return in how long Meta takes another publish, after it has refused one; None where it says that it does."""
        self._publishes.pop(allowance.account.key, None)
        asked = await self._ask(allowance)
        if asked is None or asked[0] < asked[1]:
            return None
        ages = (await self._looks.ask(allowance.account.key)).publishes
        return place_seconds(ages, *asked, 0)

    async def _asked(self, allowance: Allowance, used: Used) -> tuple[int, int | None]:
        """Return what counts and what may, asking Meta where that is near, or not known."""
        count, total, age = used.publish_count(), used.quota_total, used.quota_age
        if total is not None and age is not None and age < DAY:
            if count < int(total * NEAR):
                return count, total
            if age < (ASK_FULL_SECONDS if count >= total else ASK_SECONDS):
                return count, total
        # Meta refuses definitely what exceeds the quota: not to know it loses nothing.
        return await self._ask(allowance) or (count, None)

    async def _ask(self, allowance: Allowance) -> tuple[int, int] | None:
        """Ask Meta, and share what it says."""
        try:
            asked = await allowance.ask()
        except (GraphError, NoAnswer) as error:
            log.info("quota.unreadable", key=allowance.account.key, error=str(error))
            return None
        await self._asks.ask((allowance.account.key, *asked))
        return asked

    async def _defer(
        self, account: str, event_id: EventId, what: str, *, ages: Sequence[float], count: int, total: int
    ) -> Defer:
        """Put an event off behind the earlier ones that wait for the same, and for nothing else."""
        why = NO_PLACE.format(what=what)
        arguments = {"account": account, "event_id": event_id, "why": why}
        async with self.connections.connection() as connection:
            row = await (await connection.execute(RANK, arguments)).fetchone()
        assert row is not None
        context = {"used": count, "total": total}
        return Defer(place_seconds(ages, count, total, row[0]), Reason.RATE_LIMITED, why, context)

    async def _look(self, accounts: Sequence[str]) -> list[Used]:
        async with self.connections.connection() as connection:
            return await look(connection, accounts)

    async def _store(self, said: Sequence[tuple[str, int, int]]) -> list[None]:
        # Each account once, and all relays in one order: rows are locked in it.
        accounts, usages, totals = zip(*sorted({each[0]: each for each in said}.values()), strict=True)
        arguments = {"accounts": list(accounts), "usages": list(usages), "totals": list(totals)}
        async with self.connections.connection() as connection:
            await connection.execute(STORE, arguments)
        return [None] * len(said)


@dataclass(slots=True)
class Allowance:
    """What one event's account may do: asked before a container, and before an intent; for one dispatch.

    Attributes:
        allowances: What is known of all accounts.
        account: Whose.
        event_id: Of the event that asks.
        graph: Asks Meta as the account.
        token: The account's.
        seen: What the account had used up when a container was asked for.
    """

    allowances: Allowances
    account: Account
    event_id: EventId
    graph: GraphClient
    token: SecretStr
    seen: Used | None = None

    async def admit_part(self) -> Defer | None:
        """Tell whether another part may be made now."""
        if self.account.platform != "instagram":
            return None
        return await self.allowances.admit_container(self)

    async def admit_publish(self, placement: Placement) -> Defer | None:
        """Tell whether the post may go live now."""
        is_page_reel = placement.platform == "facebook" and placement.name == "reel"
        if self.account.platform != "instagram" and not is_page_reel:
            return None
        return await self.allowances.admit_publish(self, is_page_reel=is_page_reel)

    async def place_seconds(self) -> float | None:
        """Return in how long the account may publish, after Meta has refused that; None where nobody knows."""
        return await self.allowances.place_seconds(self)

    async def ask(self) -> tuple[int, int]:
        """Ask Meta what the account has published in 24 hours, and what it may (sheet 1.7).

        Raises:
            GraphError, NoAnswer: The call's, or its answer has another shape.
        """
        path = f"{self.account.remote_id}/content_publishing_limit"
        answer = await self.graph.get(Endpoint.PUBLISHING_LIMIT, path, self.token, {"fields": "config,quota_usage"})
        try:
            [row] = answer["data"]
            usage, total = int(row["quota_usage"]), int(row["config"]["quota_total"])
            if not (0 <= usage <= QUOTA_MAX and 0 <= total <= QUOTA_MAX):
                raise ValueError
            return usage, total
        except (KeyError, TypeError, ValueError, OverflowError):
            raise NoAnswer("expected quota_usage and config in the publishing limit, found another shape") from None
