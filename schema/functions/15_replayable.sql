-- Events that ended, were never replayed and fit a filter: the oldest first, after one id and up to another.
--
-- Called by: outbox.begin_replay(), outbox.continue_replay(), outbox.count_replayable(), as their owner; nobody else may.
-- Locks:     none.
-- Raises:    22P02, 22007 the filter holds what is no array or no instant.
--
-- The filter: states (dead where there are none), type, key, reason, error (a part of its text, in any case), since and
-- until (when it ended), emitted_before; outbox.begin_replay() lets no other in.
--
-- Walks the receipts by their ids, so that each slice goes on where the one before ended: those that were not published,
-- which are few and have an index of their own, unless published is asked for. Whatever the planner thinks, each event is
-- looked up by its receipt (offset 0).
create or replace function outbox.replayable(filter jsonb, after bigint, until bigint, ended_before timestamptz, count_max bigint)
returns setof bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $body$
declare
  states text[] := array(select jsonb_array_elements_text(coalesce(replayable.filter -> 'states', '["dead"]')));
begin
  return query execute $walk$
    select r.event_id
    from outbox.receipts as r
    cross join lateral (
      select e.type, e.key, e.created_at from outbox.events as e where e.id = r.event_id offset 0
    ) as e
    where r.event_id > $2 and r.event_id <= $3 and r.outcome = any ($6) and r.settled_at < $4
      and ($1 ->> 'type' is null or e.type = $1 ->> 'type')
      and ($1 ->> 'key' is null or e.key = $1 ->> 'key')
      and ($1 ->> 'reason' is null or r.reason = $1 ->> 'reason')
      and ($1 ->> 'error' is null or strpos(lower(r.error), lower($1 ->> 'error')) > 0)
      and ($1 ->> 'since' is null or r.settled_at >= ($1 ->> 'since')::timestamptz)
      and ($1 ->> 'until' is null or r.settled_at < ($1 ->> 'until')::timestamptz)
      and ($1 ->> 'emitted_before' is null or e.created_at < ($1 ->> 'emitted_before')::timestamptz)
      and not exists (select from outbox.events as again where again.replay_of = r.event_id)
    $walk$ || case when 'published' = any (states) then '' else $$ and r.outcome <> 'published' $$ end || $walk$
    order by r.event_id
    limit $5
    $walk$
  using replayable.filter, replayable.after, replayable.until, replayable.ended_before, replayable.count_max, states;
end
$body$;

comment on function outbox.replayable is 'Events that ended, were never replayed and fit a filter, the oldest first.';

revoke all on function outbox.replayable from public;
