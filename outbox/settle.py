"""Every durable write of a relay: receipts, waiting rows, attempts, steps, holds, cursors.

One statement in autocommit, whatever the batch holds, so that nothing is ever half written and no lock outlives a
round trip. The statement begins with the fence: it locks the relay's own row `for share`, and proves that this
incarnation is not retired and owns the lanes that it touches. Retiring needs that row exclusively, so either the
write is first, or it finds no fence and writes nothing.

Holds are locked before waiting rows, and waiting rows in the order of their events, as the SQL functions do that change
many: nobody waits for another in a circle, and nothing is left waiting for a hold that is gone. Relays lock the app's
hold one at a time.

In PostgreSQL's own form, $1: psycopg takes a text with other placeholders apart at each execution, where it is long.

One writer at a time for each relay: two transactions that share-lock one row at once would make a multixact each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, LiteralString

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.batch import Batch, arguments_of
from outbox.errors import LeaseLost, Unwritable
from outbox.event import EventId, Lane, RelayId
from outbox.low_water import Cursor
from outbox.pooled import execute_numbered

FENCE: LiteralString = """
with fence as materialized (
  select r.id, r.name, r.leased_until
  from outbox.relays as r
  where r.id = $1 and r.retired_at is null
    and cardinality($2::smallint[]) = (
      select count(*) from outbox.lanes as l where l.relay_id = r.id and l.lane = any ($2::smallint[])
    )
  for share of r
)
"""
"""Begins each statement: the row that all its parts are joined to, where relay $1 is not retired and owns lanes $2."""

PLAIN: LiteralString = """,
ended as (
  insert into outbox.receipts (
    event_id, outcome, reason, attempts, deferrals, result, error, relay_id, dispatched_at
  )
  select
    t.event_id, t.outcome, t.reason, coalesce(t.attempts, 0), coalesce(t.deferrals, 0), t.result, t.error, fence.id,
    clock_timestamp() - t.dispatched_seconds_ago * interval '1 second'
  from fence, jsonb_to_recordset($3::jsonb) as t (
    event_id bigint, outcome text, reason text, attempts integer, deferrals integer, result jsonb, error text,
    dispatched_seconds_ago float8
  )
),
verdicts as (
  select t.*, case
    when t.state <> 'intent' then 'written'
    when exists (select from outbox.cancellations as c where c.event_id = t.event_id) then 'cancelled'
    when exists (select from outbox.resolutions as d where d.event_id = t.event_id and d.published) then 'resolved'
    when exists (
      select from outbox.events as e where e.id = t.event_id and e.expires_at <= clock_timestamp()
    ) then 'expired'
    when exists (select from outbox.cluster as c where c.verify_only_since is not null) then 'verify_only'
    when exists (
      select
      from outbox.steps as s
      join outbox.events as e on e.id = s.event_id
      join outbox.holds as h on (h.scope = 'app' and h.key = '') or (h.scope = 'key' and h.key = e.key)
      where s.event_id = t.event_id and s.name = t.name and s.state = 'intent'
        and h.held_until > clock_timestamp() and h.reason <> 'unknown'
    ) then 'held'
    when fence.leased_until <= clock_timestamp() + t.call_seconds * interval '1 second' then 'lease_too_short'
    else 'written'
  end as verdict
  from fence, jsonb_to_recordset($4::jsonb) as t (
    event_id bigint, position integer, name text, state text, fingerprint text, detail jsonb, call_seconds float8
  )
),
stepped as (
  insert into outbox.steps (event_id, position, name, state, fingerprint, detail, relay_id)
  select t.event_id, t.position, t.name, t.state, t.fingerprint, t.detail, fence.id
  from fence, verdicts as t
  where t.verdict = 'written'
  returning event_id, position, created_at
)
"""
"""Receipts $3 and steps $4: inserts alone."""

OTHERS: LiteralString = """,
holding as materialized (
  select h.key, h.held_until
  from fence, outbox.holds as h
  where h.key = any ($5::text[]) and h.held_until > clock_timestamp()
  for no key update of h
),
held as (
  insert into outbox.holds as h (scope, key, held_until, reason, held_by)
  select distinct on (t.scope, t.key)
    t.scope, t.key, coalesce(clock_timestamp() + t.delay_seconds * interval '1 second', 'infinity'), t.reason,
    fence.name
  from fence, jsonb_to_recordset($6::jsonb) as t (scope text, key text, delay_seconds float8, reason text)
  order by t.scope, t.key, t.delay_seconds desc nulls first
  on conflict (scope, key) do update set
    held_until = excluded.held_until, reason = excluded.reason, held_by = excluded.held_by,
    created_at = excluded.created_at
    where excluded.held_until >= h.held_until
  returning h.key, h.held_until
),
holds_first as materialized (
  select (select count(*) from holding) + (select count(*) from held) as locked_count
),
waiting_first as materialized (
  select count(*) as locked_count
  from (
    select from fence, holds_first, outbox.waiting as w
    where w.event_id = any ($7::bigint[] || $12::bigint[])
    order by w.event_id
    for update of w
  ) as locked
),
no_longer_waiting as (
  delete from outbox.waiting as w using fence, waiting_first
  where w.event_id = any ($7::bigint[])
),
waits as (
  insert into outbox.waiting as w (
    event_id, lane, key, sequence, reason, due_at, attempts, deferrals, error, owed_since
  )
  select
    t.event_id, t.lane, t.key, t.sequence, t.reason,
    least(
      case when t.for_hold then coalesce(
        (
          select max(h.held_until)
          from (select * from holding union all select * from held) as h
          where h.key in ('', t.key)
        ),
        clock_timestamp()
      )
      else coalesce(clock_timestamp() + t.delay_seconds * interval '1 second', 'infinity') end,
      t.expires_at
    ),
    t.attempts, t.deferrals, t.error, t.owed_since
  from fence, waiting_first, jsonb_to_recordset($8::jsonb) as t (
    event_id bigint, lane smallint, key text, sequence text, reason text, delay_seconds float8, for_hold boolean,
    expires_at timestamptz, attempts integer, deferrals integer, error text, owed_since timestamptz
  )
  on conflict (event_id) do update set
    reason = excluded.reason, due_at = excluded.due_at, attempts = excluded.attempts, deferrals = excluded.deferrals,
    error = coalesce(excluded.error, w.error)
),
tries as (
  insert into outbox.attempts (event_id, reason, error, context, relay_id)
  select t.event_id, t.reason, t.error, t.context, fence.id
  from fence, jsonb_to_recordset($9::jsonb) as t (event_id bigint, reason text, error text, context jsonb)
),
suspected as (
  insert into outbox.dispatches (event_id, relay_id)
  select s.event_id, fence.id from fence, unnest($10::bigint[]) as s (event_id)
  on conflict do nothing
),
acquitted as (
  delete from outbox.dispatches as d using fence where d.event_id = any ($11::bigint[])
),
told as materialized (
  -- A key's events are all ours; the app's are every relay's.
  select outbox.notify('holds') from held where held.key = '' limit 1
)
"""
"""What else there may be: holds to wait for $5, new holds $6, events that wait no more $7, that wait $8, tries $9,
suspects $10, acquitted $11, ids of those that wait $12."""

ANSWER: LiteralString = """
select v.event_id, v.position, v.verdict, s.created_at
from fence
left join verdicts as v on true
left join stepped as s on s.event_id = v.event_id and s.position = v.position
"""
"""What became of each step; a row at least, where the fence stands."""

SETTLE_PLAIN: LiteralString = FENCE + PLAIN + ANSWER
"""For what just works: nearly every batch. What a batch does not have costs its statement even so."""

SETTLE: LiteralString = FENCE + PLAIN + OTHERS + ANSWER + "left join told on true"

SAVE_CURSORS: LiteralString = (
    FENCE
    + """,
saved as (
  update outbox.cursors as c
  set seen = $3::pg_snapshot, "window" = $4::pg_snapshot, position = $5, saved_at = clock_timestamp()
  from fence
  where c.lane = any ($2::smallint[])
)
select id from fence
"""
)

RELEASE: LiteralString = (
    FENCE
    + """,
saved as (
  update outbox.cursors as c
  set seen = t.seen::pg_snapshot, "window" = t."window"::pg_snapshot, position = t.position,
    saved_at = clock_timestamp()
  from fence, unnest($2::smallint[], $3::text[], $4::text[], $5::bigint[]) as t (lane, seen, "window", position)
  where c.lane = t.lane
),
released as (
  update outbox.lanes as l set relay_id = null from fence where l.lane = any ($2::smallint[])
)
select id, outbox.notify('lanes') from fence
"""
)
"""Gives lanes up: what the next owner must know is written together with its being free to own them."""

PROMOTE: LiteralString = (
    FENCE
    + """,
heads as (
  select t.key, t.sequence, h.event_id, h.reason
  from unnest($3::text[], $4::text[]) as t (key, sequence)
  left join lateral (
    select w.event_id, w.reason from outbox.waiting as w
    where w.key = t.key and w.sequence = t.sequence
    order by w.event_id
    limit 1
  ) as h on true
),
locked as materialized (
  select w.event_id from fence, heads, outbox.waiting as w
  where w.event_id = heads.event_id and heads.reason = 'parked'
  order by w.event_id
  for update of w
),
promoted as (
  update outbox.waiting as w set due_at = clock_timestamp() from locked where w.event_id = locked.event_id
)
select heads.key, heads.sequence, heads.event_id is null as free from fence, heads
"""
)
"""Makes the first waiting event of each sequence due if it is parked: nothing is before it any more.

The lanes need no proof: the relay writes one statement at a time, and has just settled events of these sequences."""

_REFUSALS = ("22", "23", "54")
"""SQLSTATE classes of what is wrong with a row: data, a constraint, a limit of the program. A row that is there already
is no such thing: it tells of another writer."""

UNENCODABLE = (RecursionError, TypeError, ValueError)
"""What `outbox.batch.arguments_of` raises where JSON can't hold what a handler returned."""

Verdict = Literal["written", "cancelled", "resolved", "expired", "verify_only", "held", "lease_too_short"]

StepVerdicts = dict[tuple[EventId, int], tuple[Verdict, datetime | None]]


async def settle(
    connection: AsyncConnection[TupleRow], relay_id: RelayId, batch: Batch, arguments: Sequence[Any] | None = None
) -> StepVerdicts:
    """Write a batch, whole or not at all, and return what became of its steps by event and position.

    `arguments` are the batch's, by `outbox.batch.arguments_of`, where they were made up before.

    An intent is not written, and says why, where its event was cancelled or has expired, where a person says that it is
    published, where relays may only verify, where its call was made before and a hold stands that is for no doubt,
    or where the lease would not outlive its call. All other rows are written.

    Raises:
        LeaseLost: This incarnation is retired or does not own the lanes; nothing was written.
        Unwritable: A row is none that PostgreSQL takes; nothing was written.
        psycopg.Error: Whether the batch was written is not known.
    """
    try:
        statement = SETTLE_PLAIN if batch.is_plain else SETTLE
        rows = await execute_numbered(connection, statement, relay_id, *(arguments or arguments_of(batch)))
    except UNENCODABLE as error:
        raise Unwritable(f"it can't be written as JSON: {error}") from error
    except psycopg.Error as error:
        if (error.sqlstate or "")[:2] in _REFUSALS and not isinstance(error, psycopg.errors.UniqueViolation):
            raise Unwritable(f"PostgreSQL refuses it: {error.diag.message_primary}") from error
        raise
    if not rows:
        raise LeaseLost(f"relay {relay_id} is retired, or a lane that it wrote to is another's")
    return {(event_id, position): (verdict, at) for event_id, position, verdict, at in rows if event_id is not None}


async def save_cursor(
    connection: AsyncConnection[TupleRow], relay_id: RelayId, lanes: Sequence[Lane], cursor: Cursor
) -> None:
    """Save how far some lanes have been read and settled. Raises LeaseLost."""
    where = (cursor.seen, cursor.window, cursor.position)
    if not await execute_numbered(connection, SAVE_CURSORS, relay_id, list(lanes), *where):
        raise LeaseLost(f"relay {relay_id} is retired, or a lane whose cursor it saved is another's")


async def release(connection: AsyncConnection[TupleRow], relay_id: RelayId, low_waters: Mapping[Lane, Cursor]) -> None:
    """Give up lanes, save where the next owner begins to read each of them, and tell the other relays.

    Nothing of these lanes may be in flight, nor anything else be written for them afterwards.

    Raises:
        LeaseLost: This incarnation is retired or does not own the lanes; nothing was written.
    """
    cursors = list(low_waters.values())
    seen, windows = [cursor.seen for cursor in cursors], [cursor.window for cursor in cursors]
    positions = [cursor.position for cursor in cursors]
    if not await execute_numbered(connection, RELEASE, relay_id, list(low_waters), seen, windows, positions):
        raise LeaseLost(f"relay {relay_id} is retired, or a lane that it gave up is another's")


async def promote(
    connection: AsyncConnection[TupleRow], relay_id: RelayId, sequences: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Make the next event of each (key, sequence) due, and return the sequences in which none waits any more.

    Raises:
        LeaseLost: This incarnation is retired.
    """
    keys, names = [key for key, _ in sequences], [name for _, name in sequences]
    rows = await execute_numbered(connection, PROMOTE, relay_id, list[Lane](), keys, names)
    if not rows:
        raise LeaseLost(f"relay {relay_id} is retired")
    return [(key, sequence) for key, sequence, free in rows if free]
