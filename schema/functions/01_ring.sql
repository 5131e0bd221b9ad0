-- The doorbell: NOTIFY outbox, '<lane>', unless the lane's relay is awake and polls anyway.
--
-- Called by: the trigger on outbox.events, inside the emitting transaction.
-- Locks:     none; reads one row of outbox.lanes and one of outbox.relays. A transaction that has issued NOTIFY takes a
--            lock of the whole cluster at its commit; that is why the bell is muted under load.
-- Raises:    nothing. PREPARE TRANSACTION refuses a transaction that rang: set local outbox.ring = 'off' before
--            emitting there, and the relay's poll delivers.
--
-- An older snapshot may show a bell that has been muted since, or unmuted: outside READ COMMITTED it always rings.
create or replace function outbox.ring() returns trigger
language plpgsql
as $$
begin
  if current_setting('outbox.ring', true) = 'off' then
    return null;
  end if;
  if current_setting('transaction_isolation') = 'read committed' and exists (
    select from outbox.lanes as l
    join outbox.relays as r on r.id = l.relay_id
    where l.lane = new.lane and r.awake_until > clock_timestamp()
  ) then
    return null;
  end if;
  perform pg_notify('outbox', new.lane::text);
  return null;
end
$$;

comment on function outbox.ring() is 'Rings the doorbell of the event''s lane unless its relay is awake.';

create or replace trigger ring after insert on outbox.events for each row execute function outbox.ring();

revoke all on function outbox.ring() from public;
