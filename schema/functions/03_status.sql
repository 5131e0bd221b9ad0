-- How an event stands.
--
-- Called by: applications and people.
-- Locks:     none.
-- Raises:    nothing; no row where there is no such event.
create or replace function outbox.status(event_id bigint)
returns table (
  id bigint, state text, reason text, attempts integer, deferrals integer, error text, result jsonb,
  due_at timestamptz, created_at timestamptz, settled_at timestamptz
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select s.id, s.state, s.reason, s.attempts, s.deferrals, s.error, s.result, s.due_at, s.created_at, s.settled_at
  from outbox.event_states as s
  where s.id = status.event_id
$$;

comment on function outbox.status is 'How an event stands: new (or in flight), waiting, published, dead, cancelled or expired, and why.';

revoke all on function outbox.status from public;
grant execute on function outbox.status to outbox_emitter, outbox_operator;
