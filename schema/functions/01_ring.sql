-- The doorbell: NOTIFY outbox, '<lane>', unless the lane's relay is awake and polls anyway.
--
-- Called by: the trigger on outbox.events, inside the emitting transaction.
-- Locks:     none; reads outbox.lanes and outbox.relays now and then. A transaction that has issued NOTIFY takes a lock of the whole
--            cluster at its commit; that is why the bell is muted under load.
-- Raises:    nothing. PREPARE TRANSACTION refuses a transaction that rang: set local outbox.ring = 'off' before
--            emitting there, and the relay's poll delivers.
--
-- A session remembers for a tenth of a second which lanes are muted, to spare each event a look at two tables (`outbox
-- bench emit` measures what the bell costs). Remembered are one bit a lane and the instant, from before the look, until
-- when they count; a relay that unmutes its bell, or takes a lane, waits that long before it takes its horizon
-- (relay/doorbell.py). A transaction has its xid before it looks or remembers, so each that found the bell muted is
-- below that horizon.
--
-- An older snapshot may show a bell that has been muted since, or unmuted: outside READ COMMITTED it always rings.
--
-- Names and operators are qualified because the function runs with the rights of the log's owner and the search_path of
-- whoever emits; setting one for its duration costs more than all that it does.
create or replace function outbox.ring() returns trigger
language plpgsql
as $$
declare
  now_seconds double precision;
  known_until pg_catalog.text;
  muted bigint;
begin
  if pg_catalog.current_setting('outbox.ring', true) operator(pg_catalog.=) 'off' then
    return null;
  end if;
  if pg_catalog.current_setting('transaction_isolation') operator(pg_catalog.=) 'read committed' then
    now_seconds := pg_catalog.date_part('epoch', pg_catalog.clock_timestamp());
    known_until := pg_catalog.current_setting('outbox.muted_lanes_known_until', true);
    -- It is empty where the transaction that set it was rolled back. Later than a tenth of a second from now it is where
    -- the server's clock was set back.
    if known_until operator(pg_catalog.<>) ''
      and known_until::double precision operator(pg_catalog.>) now_seconds
      and known_until::double precision operator(pg_catalog.<=) (now_seconds operator(pg_catalog.+) 0.1::double precision)
    then
      muted := pg_catalog.current_setting('outbox.muted_lanes')::bigint;
    else
      muted := (
        select coalesce(pg_catalog.bit_or(1::bigint operator(pg_catalog.<<) l.lane::integer), 0)
        from outbox.lanes as l
        join outbox.relays as r on r.id operator(pg_catalog.=) l.relay_id
        where r.awake_until operator(pg_catalog.>) pg_catalog.clock_timestamp()
      );
      perform
        pg_catalog.set_config('outbox.muted_lanes', muted::pg_catalog.text, false),
        pg_catalog.set_config(
          'outbox.muted_lanes_known_until', (now_seconds operator(pg_catalog.+) 0.1::double precision)::pg_catalog.text, false
        );
    end if;
    if (muted operator(pg_catalog.>>) new.lane::integer) operator(pg_catalog.&) 1::bigint operator(pg_catalog.=) 1::bigint then
      return null;
    end if;
  end if;
  perform pg_catalog.pg_notify('outbox', new.lane::pg_catalog.text);
  return null;
end
$$;

comment on function outbox.ring() is 'Rings the doorbell of the event''s lane unless its relay is awake.';

create or replace trigger ring after insert on outbox.events for each row execute function outbox.ring();

revoke all on function outbox.ring() from public;
