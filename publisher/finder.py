"""Finds later which post a success became, where neither its answer nor the look that followed could tell.

Meta's lists lag, and a container says that it was published but not as what (sheet 6.3). The event has ended as
published by then, and nothing here can change that: what is found is a row of `social.found_posts`, what is not stays
unknown. Each relay looks for itself, ever more rarely; the first one that finds a post is right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import LiteralString

import anyio
import psycopg
import structlog
from anyio.abc import TaskStatus
from psycopg.rows import class_row
from psycopg_pool import PoolClosed, PoolTimeout

from outbox.event import EventId, JsonObject
from publisher.errors import PublisherError
from publisher.graph import GraphClient
from publisher.placement import Placement, PostType
from publisher.placements import place
from publisher.reconcile import Evidence, candidates
from publisher.tokens import KeyRing
from publisher.variants import Connections, VariantCreated, Variants, known_elsewhere, unnamed_elsewhere

EVERY_SECONDS = 300.0
FIRST_LOOK_SECONDS = 60.0
GROWTH = 4
PAGE = 100

log = structlog.get_logger()

UNNAMED: LiteralString = """
select
  d.event_id, e.payload, i.detail, i.created_at as intent_at,
  extract(epoch from clock_timestamp() - d.created_at)::float8 as age_seconds
from outbox.steps as d
join outbox.events as e on e.id = d.event_id and e.type = 'variant.created'
join lateral (
  select s.detail, s.created_at
  from outbox.steps as s
  where s.event_id = d.event_id and s.name = 'publish' and s.state = 'intent'
  order by s.position desc
  limit 1
) as i on true
where d.name = 'publish' and d.state = 'done' and d.detail @> '{"remote_id": null}'
  and d.created_at > clock_timestamp() - interval '1 day'
  and not exists (select from social.found_posts as f where f.event_id = d.event_id)
  and d.event_id > %(after)s
order by d.event_id
limit %(count)s
"""

STORE: LiteralString = """
insert into social.found_posts (event_id, remote_id, permalink)
values (%(event_id)s, %(remote_id)s, %(permalink)s)
on conflict do nothing
"""

FORGET: LiteralString = """
delete from social.found_posts as f
where f.found_at < clock_timestamp() - interval '1 day'
  and not exists (select from outbox.events as e where e.id = f.event_id)
"""


@dataclass(frozen=True, slots=True)
class Unnamed:
    """A success of which nobody knows which post it is; `detail` is its intent's."""

    event_id: EventId
    payload: JsonObject
    detail: JsonObject
    intent_at: datetime
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Finder:
    """Looks now and then; `looks` counts this process's."""

    connections: Connections
    graph: GraphClient
    keys: KeyRing
    looks: dict[EventId, int] = field(default_factory=dict)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled; while the database is away there is nothing to look for."""
        task_status.started()
        while True:
            await anyio.sleep(EVERY_SECONDS)
            try:
                await self.look()
            except (psycopg.Error, PoolTimeout, PoolClosed) as error:
                log.debug("finding.postponed", error=str(error))

    async def look(self) -> None:
        """Look for each post that is due, and forget those whose event is gone."""
        page, seen = await self._page(after=0), set[EventId]()
        while page:
            for each in page:
                seen.add(each.event_id)
                looked = self.looks.get(each.event_id, 0)
                if each.age_seconds >= FIRST_LOOK_SECONDS * GROWTH**looked:
                    self.looks[each.event_id] = looked + 1
                    await self._look_for(each)
            page = await self._page(after=page[-1].event_id)
        for gone in self.looks.keys() - seen:
            del self.looks[gone]
        async with self.connections.connection() as connection:
            await connection.execute(FORGET)

    async def _page(self, *, after: int) -> list[Unnamed]:
        """Return some, by their events: that many are never found is not to keep others from being looked for."""
        async with (
            self.connections.connection() as connection,
            connection.cursor(row_factory=class_row(Unnamed)) as cursor,
        ):
            return await (await cursor.execute(UNNAMED, {"after": after, "count": PAGE})).fetchall()

    async def _look_for(self, unnamed: Unnamed) -> None:
        """Store the one post that fits. A look that fails is one look: nobody waits for it."""
        try:
            placement = await self._placement(unnamed)
            fitting = [] if placement is None else await self._fitting(unnamed, placement)
            if placement is None or len(fitting) != 1:
                return
            [remote_id] = fitting
            permalink = (await placement.read_back(remote_id)).permalink
        except PublisherError as error:
            log.info("post.unreadable", event_id=unnamed.event_id, error=str(error))
            return
        arguments = {"event_id": unnamed.event_id, "remote_id": remote_id, "permalink": permalink}
        async with self.connections.connection() as connection:
            await connection.execute(STORE, arguments)
        log.info("post.found", event_id=unnamed.event_id, remote_id=remote_id)

    async def _placement(self, unnamed: Unnamed) -> Placement | None:
        """Return the placement; None where the variant or its account is not there, or is another one now."""
        found = await Variants(self.connections).look_up(VariantCreated.model_validate(unnamed.payload))
        variant, account = found.variant, found.account
        if variant is None or account is None or account.key != unnamed.detail.get("account"):
            return None
        if variant.placement != unnamed.detail.get("placement"):
            return None
        return place(variant, account, self.graph.of(account.key), self.keys.decrypt(account.token_ciphertext))

    async def _fitting(self, unnamed: Unnamed, placement: Placement) -> list[str]:
        handles, detail = unnamed.detail["handles"], unnamed.detail
        others = await unnamed_elsewhere(
            self.connections,
            unnamed.event_id,
            detail["account"],
            unnamed.intent_at,
            is_story=placement.name == "story",
        )
        if others and not placement.names_its_handle:
            return []
        sight = await placement.look(handles, unnamed.intent_at)
        known = await known_elsewhere(self.connections, unnamed.event_id, [post.id for post in sight.live])
        evidence = Evidence(
            handles=tuple(handles),
            names_its_handle=placement.names_its_handle,
            post_type=PostType(detail["media_type"]),
            text_digest=detail.get("text"),
            intent_at=unnamed.intent_at,
            seconds_after_intent=unnamed.age_seconds,
            live_before=frozenset(detail["live_before"]),
            known_elsewhere=known,
            sight=sight,
            negative_looks=0,
        )
        return candidates(evidence)
