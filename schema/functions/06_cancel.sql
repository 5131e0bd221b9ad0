-- Asks for an event to be cancelled. Every intent whose statement begins after this commits is refused; the relay's
-- settler writes the receipt. An event whose irreversible call was begun already ends as that call did.
--
-- Called by: operators, through `outbox cancel` or psql.
-- Locks:     the event's row in outbox.waiting, to make it due at once; outbox.heed_people() has one that is written later
--            come back soon.
-- Raises:    OB001 no such event; OB004 it has ended already. Asking twice is no error.
create or replace function outbox.cancel(event_id bigint, reason text default null) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  ended text;
begin
  if not exists (select from outbox.events as e where e.id = cancel.event_id) then
    raise exception 'event % does not exist', cancel.event_id using errcode = 'OB001';
  end if;
  select r.outcome into ended from outbox.receipts as r where r.event_id = cancel.event_id;
  if found then
    raise exception 'event % has ended already: %', cancel.event_id, ended using errcode = 'OB004';
  end if;
  insert into outbox.cancellations (event_id, reason) values (cancel.event_id, cancel.reason) on conflict do nothing;
  if found then
    perform outbox.record('cancel', 1, cancel.reason, event_id => cancel.event_id);
  end if;
  update outbox.waiting as w set due_at = clock_timestamp() where w.event_id = cancel.event_id;
  perform outbox.notify('waiting');
end
$$;

comment on function outbox.cancel is 'Asks for an event to be cancelled: an intent whose statement begins after this commits is refused.';

revoke all on function outbox.cancel from public;
grant execute on function outbox.cancel to outbox_operator;
