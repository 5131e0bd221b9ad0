-- Events that ended, were never replayed and fit a filter: the oldest first, after one id and up to another.
--
-- Called by: outbox.begin_replay(), outbox.continue_replay(), as their owner; nobody else may.
-- Locks:     none.
-- Raises:    22P02, 22007 the filter holds what is no array or no instant.
--
-- The filter: states (dead where there are none), type, key, reason, error (a part of its text, in any case), since and
-- until (when it ended), emitted_before; outbox.begin_replay() lets no other in. Walks the receipts by their key: each slice goes on where the one before ended.
create or replace function outbox.replayable(filter jsonb, after bigint, until bigint, ended_before timestamptz, count_max bigint)
returns setof bigint
language sql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
  select r.event_id
  from outbox.receipts as r
  join outbox.events as e on e.id = r.event_id
  where r.event_id > replayable.after and r.event_id <= replayable.until
    and r.outcome = any (
      select jsonb_array_elements_text(coalesce(replayable.filter -> 'states', '["dead"]'))
    )
    and r.settled_at < replayable.ended_before
    and (replayable.filter ->> 'type' is null or e.type = replayable.filter ->> 'type')
    and (replayable.filter ->> 'key' is null or e.key = replayable.filter ->> 'key')
    and (replayable.filter ->> 'reason' is null or r.reason = replayable.filter ->> 'reason')
    and (replayable.filter ->> 'error' is null or strpos(lower(r.error), lower(replayable.filter ->> 'error')) > 0)
    and (replayable.filter ->> 'since' is null or r.settled_at >= (replayable.filter ->> 'since')::timestamptz)
    and (replayable.filter ->> 'until' is null or r.settled_at < (replayable.filter ->> 'until')::timestamptz)
    and (
      replayable.filter ->> 'emitted_before' is null or e.created_at < (replayable.filter ->> 'emitted_before')::timestamptz
    )
    and not exists (select from outbox.events as again where again.replay_of = r.event_id)
  order by r.event_id
  limit replayable.count_max
$$;

comment on function outbox.replayable is 'Events that ended, were never replayed and fit a filter, the oldest first.';

revoke all on function outbox.replayable from public;
