-- Emits a copy of an event, not before an instant where one is given, and returns its id; a second time the same id.
--
-- Called by: outbox.replay(), outbox.continue_replay(), as their owner; nobody else may.
-- Locks:     none beyond the insert.
-- Raises:    what outbox.emit() raises.
create or replace function outbox.emit_again(event_id bigint, publish_at timestamptz) returns bigint
language sql
set search_path = pg_catalog, pg_temp
as $$
  select outbox.emit(
    type => e.type,
    payload => e.payload,
    key => e.key,
    sequence => e.sequence,
    dedupe_key => 'replay:' || e.id,
    publish_at => emit_again.publish_at,
    headers => e.headers,
    replay_of => e.id
  )
  from outbox.events as e
  where e.id = emit_again.event_id
$$;

comment on function outbox.emit_again is 'Emits a copy of an event and returns its id; a second time the same id.';

revoke all on function outbox.emit_again from public;
