"""What must be true when the dust has settled, by the records of the database and of the sandbox."""

from __future__ import annotations

from collections import Counter as Tally
from typing import Any, LiteralString

import psycopg

from tests.chaos.ground import Ground
from tests.chaos.ticks import EVENT_TYPE

UNSETTLED: LiteralString = """
select e.id, e.type, s.state, s.reason, s.error
from outbox.events as e join outbox.event_states as s on s.id = e.id
where not exists (select from outbox.receipts as r where r.event_id = e.id)
order by e.id
"""
NOT_PUBLISHED: LiteralString = """
select r.event_id, r.outcome, r.reason, r.error from outbox.receipts as r where r.outcome <> 'published'
"""
LEFT_WAITING: LiteralString = "select event_id, reason from outbox.waiting"
VIOLATIONS: LiteralString = "select what, detail from public.violations"
OUT_OF_ORDER: LiteralString = """
select ordered.* from (
  select
    e.id, e.key, e.sequence,
    lag(r.settled_at) over (partition by e.key, e.sequence order by e.id) as settled_before,
    (select min(h.at) from public.handled as h where h.event_id = e.id) as begun_at
  from outbox.events as e join outbox.receipts as r on r.event_id = e.id
  where e.sequence is not null and e.type = %s
) as ordered
where ordered.begun_at < ordered.settled_before
"""
"""An event was handled before the one before it in its sequence had its receipt."""
NEVER_HANDLED: LiteralString = """
select e.id from outbox.events as e
where e.type = %s and not exists (select from public.handled as h where h.event_id = e.id)
"""
HANDLED_AFTER_RECEIPT: LiteralString = """
select h.event_id, h.at, r.settled_at from public.handled as h join outbox.receipts as r on r.event_id = h.event_id
where h.at > r.settled_at
"""
"""Only a zombie that was stopped between its dispatch and its call may do so, and what it says is not written."""
VARIANTS: LiteralString = """
select coalesce(v.caption, v.media_url), r.outcome from social.content_variants as v
join outbox.events as e on e.payload ->> 'variant_id' = v.id::text and e.type = 'variant.created'
join outbox.receipts as r on r.event_id = e.id
"""
NOTHING_OF: tuple[tuple[str, LiteralString, list[str]], ...] = (
    ("events without a receipt", UNSETTLED, []),
    ("waiting rows of events that ended", LEFT_WAITING, []),
    ("events that were not published", NOT_PUBLISHED, []),
    ("writes and lanes that two relays had", VIOLATIONS, []),
    ("events before their turn", OUT_OF_ORDER, [EVENT_TYPE]),
    ("ticks that nobody handled", NEVER_HANDLED, [EVENT_TYPE]),
)
BOTH: LiteralString = "select count(distinct type = %s) from outbox.events"
COUNTS: LiteralString = """
select
  (select count(*) from outbox.events where type = %s),
  (select count(*) from outbox.events where type <> %s),
  (select count(*) from public.handled),
  (select count(*) from outbox.attempts),
  (select count(*) from outbox.relays)
"""


def has_both(dsn: str) -> bool:
    """Tell whether there are ticks and posts: what fails from now on, fails under both."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(BOTH, [EVENT_TYPE]).fetchone() == (2,)


def unsettled(dsn: str) -> list[Any]:
    """Return the committed events without a receipt."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(UNSETTLED).fetchall()


async def judge(ground: Ground) -> dict[str, int]:
    """Check everything, and return what there was of it."""
    with psycopg.connect(ground.dsn, autocommit=True) as connection:
        for what, query, arguments in NOTHING_OF:
            rows = connection.execute(query, arguments).fetchall()
            assert not rows, f"{what}: {len(rows)}, the first of them {rows[:5]}"
        handled_late = connection.execute(HANDLED_AFTER_RECEIPT).fetchall()
        published = Tally(shown for (shown, _) in connection.execute(VARIANTS).fetchall())
        live = Tally(post["text"] or post["media"] for post in (await ground.graph.control("GET", "live"))["live"])
        assert live == published, (live - published, published - live)
        counts = connection.execute(COUNTS, [EVENT_TYPE, EVENT_TYPE]).fetchone()
        assert counts is not None
    names = ("ticks", "posts", "calls of the tick handler", "attempts that failed", "incarnations")
    return {
        **dict(zip(names, counts, strict=True)),
        "calls by a zombie after the receipt": len(handled_late),
        "relays that ended by themselves": ground.died_count,
    }
