-- Lets no word of a person go by. A relay that was looking while somebody decided is about to have the event wait, for a
-- person even; or it has an event wait for weeks that was cancelled before it had a row here, when outbox.cancel() found
-- none to make due. It comes back soon instead, and is found decided or cancelled.
--
-- Called by: the trigger on outbox.waiting, for rows that are unknown, or not due soon.
-- Locks:     none; the row is locked by whoever writes it, as outbox.resolve() locks it before it decides: either this
--            sees the decision, or that makes the row due. A cancellation that commits while a first row is being written
--            is found when that is due.
-- Raises:    nothing.
--
-- What may be live ends as its call did: a cancellation does not bring it back.
--
-- Not at once, and not often for long: a relay of an older release, which knows of no decisions, would look without end.
create or replace function outbox.heed_people() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  decided_at timestamptz;
begin
  if new.reason = 'unknown' then
    select max(d.requested_at) into decided_at
    from outbox.resolutions as d
    where d.event_id = new.event_id and not exists (
      select from outbox.steps as s
      where s.event_id = d.event_id and s.name = d.name and s.position > d.position
        and (s.state = 'done' or (s.state = 'refused' and not d.published))
    );
  else
    select c.requested_at into decided_at
    from outbox.cancellations as c
    where c.event_id = new.event_id and not outbox.may_be_live(c.event_id);
  end if;
  if decided_at is not null then
    new.due_at := least(
      new.due_at,
      clock_timestamp() + case when decided_at > clock_timestamp() - interval '1 minute' then interval '1 second' else interval '1 minute' end
    );
    -- The relay believes that it waits as long as it said.
    perform outbox.notify('waiting');
  end if;
  return new;
end
$$;

comment on function outbox.heed_people() is 'Has a waiting event that was decided about, or cancelled, meanwhile come back soon.';

create or replace trigger heed_people before insert or update on outbox.waiting
for each row when (new.reason = 'unknown' or new.due_at > clock_timestamp() + interval '1 second')
execute function outbox.heed_people();

revoke all on function outbox.heed_people() from public;
