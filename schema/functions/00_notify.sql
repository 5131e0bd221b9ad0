-- Tells the relays that something changed, at the caller's commit: NOTIFY outbox, '<topic>'. The topics are cluster, holds,
-- lanes and waiting. A number there is a lane's doorbell, which is outbox.ring()'s.
--
-- Where the server's queue of notifications is full each commit that notifies fails, and with it what it was about. Relays
-- find by themselves what changed, a little later: so from nine tenths on they are not told.
--
-- Called by: the functions that change something for people, as their owner; relays.
-- Locks:     none here; the caller's commit takes the lock of the whole cluster that each commit takes that notifies.
-- Raises:    nothing.
create or replace function outbox.notify(topic text) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  select pg_notify('outbox', notify.topic) where pg_notification_queue_usage() < 0.9
$$;

comment on function outbox.notify is 'Tells the relays that something changed, unless the server''s queue of notifications is nearly full.';

revoke all on function outbox.notify from public;
grant execute on function outbox.notify to outbox_relay;
