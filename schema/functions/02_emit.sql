-- Writes an event into the log, in the caller's transaction, and returns its id.
--
-- Called by: applications, from any driver; the trigger on social.content_variants; outbox.replay().
-- Locks:     none beyond the insert; a concurrent emit of the same dedupe_key waits for the first one's end.
-- Raises:    23514 (check_violation) where a constraint of outbox.events says no; 23502 without a type; 40001 when the dedupe_key was emitted
--            by a transaction that a REPEATABLE READ or SERIALIZABLE snapshot can't see.
--
-- The transaction takes its xid before anything looks at the bell: a relay that falls asleep waits for every xid below
-- its horizon, and so for every transaction that may have found the bell muted.
create or replace function outbox.emit(
  type text,
  payload jsonb default '{}',
  key text default null,
  sequence text default null,
  dedupe_key text default null,
  publish_at timestamptz default null,
  expires_at timestamptz default null,
  headers jsonb default '{}',
  replay_of bigint default null
) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  current_xid xid8 := pg_current_xact_id();
  event_id bigint;
begin
  loop
    insert into outbox.events (
      xid, lane, key, sequence, type, payload, headers, dedupe_key, publish_at, expires_at, replay_of
    )
    values (
      current_xid,
      case when emit.key is null then floor(random() * 64) else hashtextextended(emit.key, 0) & 63 end,
      emit.key, emit.sequence, emit.type, emit.payload, emit.headers, emit.dedupe_key, emit.publish_at, emit.expires_at, emit.replay_of
    )
    on conflict (dedupe_key) where dedupe_key is not null do nothing
    returning id into event_id;
    exit when event_id is not null;
    select e.id into event_id from outbox.events as e where e.dedupe_key = emit.dedupe_key;
    exit when event_id is not null;
    -- It was pruned between the two: its dedupe key is free.
  end loop;
  return event_id;
end
$$;

comment on function outbox.emit is 'Writes an event into the log, in the caller''s transaction, and returns its id; the first one''s id where dedupe_key was emitted before.';

revoke all on function outbox.emit from public;
grant execute on function outbox.emit to outbox_emitter;
