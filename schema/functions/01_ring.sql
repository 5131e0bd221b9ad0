-- The doorbell: NOTIFY outbox, '<lane>', unless the lane's relay is awake and polls anyway.
--
-- Called by: the trigger on outbox.events, inside the emitting transaction.
-- Locks:     none; reads outbox.lanes and outbox.relays now and then. A transaction that has issued NOTIFY takes a lock of the whole
--            cluster at its commit; that is why the bell is muted under load.
-- Raises:    nothing. PREPARE TRANSACTION refuses a transaction that rang: set local outbox.ring = 'off' before
--            emitting there, and the relay's poll delivers.
--
-- A session remembers for the second of the server's clock in which it looked which lanes are muted, one bit a lane: with
-- 32 writers a look for every event takes as long as writing it (`outbox bench emit` measures what the bell costs). A
-- second is over after a second, or two where the clock was set back in it; a relay that unmutes its bell, or takes a
-- lane, waits for two before it takes its horizon (relay/doorbell.py). A transaction has its xid before it looks or
-- remembers, so each that found the bell muted is below that horizon.
--
-- An older snapshot may show a bell that has been muted since, or unmuted: outside READ COMMITTED a session remembers,
-- and does not look.
--
-- Under load all that runs is the first condition: PL/pgSQL prepares each expression anew for every transaction, so they
-- are few, and the rest is behind it.
--
-- Names and operators are qualified because the function runs with the rights of the log's owner and the search_path of
-- whoever emits; setting one for its duration costs more than all that it does.
create or replace function outbox.ring() returns trigger
language plpgsql
as $$
declare
  this_second pg_catalog.text;
  muted bigint;
begin
  -- Both settings are empty where the transaction that set them was rolled back.
  if pg_catalog.current_setting('outbox.muted_lanes_known_in', true)
      operator(pg_catalog.=) pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())::bigint::pg_catalog.text
    and (pg_catalog.current_setting('outbox.muted_lanes', true)::bigint operator(pg_catalog.>>) new.lane::integer)
      operator(pg_catalog.&) 1::bigint operator(pg_catalog.=) 1::bigint
  then
    return null;
  end if;
  if pg_catalog.current_setting('outbox.ring', true) operator(pg_catalog.=) 'off' then
    return null;
  end if;
  if pg_catalog.current_setting('transaction_isolation') operator(pg_catalog.=) 'read committed' then
    this_second := pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())::bigint::pg_catalog.text;
    if coalesce(pg_catalog.current_setting('outbox.muted_lanes_known_in', true), '') operator(pg_catalog.<>) this_second then
      muted := (
        select coalesce(pg_catalog.bit_or(1::bigint operator(pg_catalog.<<) l.lane::integer), 0)
        from outbox.lanes as l
        join outbox.relays as r on r.id operator(pg_catalog.=) l.relay_id
        where r.awake_until operator(pg_catalog.>) pg_catalog.clock_timestamp()
      );
      perform
        pg_catalog.set_config('outbox.muted_lanes', muted::pg_catalog.text, false),
        pg_catalog.set_config('outbox.muted_lanes_known_in', this_second, false);
      if (muted operator(pg_catalog.>>) new.lane::integer) operator(pg_catalog.&) 1::bigint operator(pg_catalog.=) 1::bigint then
        return null;
      end if;
    end if;
  end if;
  perform pg_catalog.pg_notify('outbox', new.lane::pg_catalog.text);
  return null;
end
$$;

comment on function outbox.ring() is 'Rings the doorbell of the event''s lane unless its relay is awake.';

create or replace trigger ring after insert on outbox.events for each row execute function outbox.ring();

revoke all on function outbox.ring() from public;
