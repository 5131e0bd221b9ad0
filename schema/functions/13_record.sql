-- Writes a row of the audit, in the transaction of the change.
--
-- Called by: the functions that change something for people, as their owner; nobody else may.
-- Locks:     none beyond the insert.
-- Raises:    nothing.
create or replace function outbox.record(
  operation text,
  event_count bigint,
  reason text,
  event_id bigint default null,
  key text default null,
  detail jsonb default '{}'
) returns bigint
language sql
set search_path = pg_catalog, pg_temp
as $$
  insert into outbox.operations (operation, event_id, key, event_count, detail, reason)
  values (record.operation, record.event_id, record.key, record.event_count, jsonb_strip_nulls(record.detail), record.reason)
  returning id
$$;

comment on function outbox.record is 'Writes a row of the audit.';

revoke all on function outbox.record from public;
