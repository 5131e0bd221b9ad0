-- Lets no decision go by: a relay that was looking while a person decided is about to have the event wait, for a person
-- even. It comes back soon instead, and finds the decision.
--
-- Called by: the trigger on outbox.waiting, for rows that are unknown.
-- Locks:     none; the row is locked by whoever writes it, as outbox.resolve() locks it before it decides: either this
--            sees the decision, or that makes the row due.
-- Raises:    nothing.
--
-- Not at once, and not often for long: a relay of an older release, which knows of no decisions, would look without end.
create or replace function outbox.heed_resolution() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  decided_at timestamptz;
begin
  select max(d.requested_at) into decided_at
  from outbox.resolutions as d
  where d.event_id = new.event_id and not exists (
    select from outbox.steps as s
    where s.event_id = d.event_id and s.name = d.name and s.position > d.position
      and (s.state = 'done' or (s.state = 'refused' and not d.published))
  );
  if decided_at is not null then
    new.due_at := least(
      new.due_at,
      clock_timestamp() + case when decided_at > clock_timestamp() - interval '1 minute' then interval '1 second' else interval '1 minute' end
    );
  end if;
  return new;
end
$$;

comment on function outbox.heed_resolution() is 'Has an event that waits as unknown, and was decided about meanwhile, come back soon.';

create or replace trigger heed_resolution before insert or update on outbox.waiting
for each row when (new.reason = 'unknown') execute function outbox.heed_resolution();

revoke all on function outbox.heed_resolution() from public;
