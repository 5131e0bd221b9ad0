-- Cancels a replay of many events: it emits no more, and what it has emitted and has not ended is cancelled, as
-- outbox.cancel() does it. Returns how many events that are.
--
-- Called by: operators, through `outbox cancel --replay` or psql.
-- Locks:     the replay's row, so that no slice is half emitted; then the waiting rows of its events, in their order.
-- Raises:    OB009 there is no such replay. Cancelling twice is no error.
create or replace function outbox.cancel_replay(replay_id bigint, reason text default null) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  cancelled_count bigint;
begin
  update outbox.replays as p set cancelled_at = coalesce(p.cancelled_at, clock_timestamp()) where p.id = cancel_replay.replay_id;
  if not found then
    raise exception 'replay % does not exist', cancel_replay.replay_id using errcode = 'OB009';
  end if;
  insert into outbox.cancellations (event_id, reason)
  select m.event_id, cancel_replay.reason
  from outbox.replayed_events as m
  where m.replay_id = cancel_replay.replay_id
    and not exists (select from outbox.receipts as r where r.event_id = m.event_id)
  on conflict do nothing;
  get diagnostics cancelled_count = row_count;
  update outbox.waiting as w set due_at = clock_timestamp()
  from (
    select emitted.event_id
    from outbox.replayed_events as m
    join outbox.waiting as emitted on emitted.event_id = m.event_id
    where m.replay_id = cancel_replay.replay_id
    order by emitted.event_id
    for update of emitted
  ) as locked
  where w.event_id = locked.event_id;
  perform outbox.notify('waiting');
  perform outbox.record(
    'cancel', cancelled_count, cancel_replay.reason, detail => jsonb_build_object('replay', cancel_replay.replay_id)
  );
  return cancelled_count;
end
$$;

comment on function outbox.cancel_replay is 'Cancels a replay of many events, and what it has emitted and has not ended.';

revoke all on function outbox.cancel_replay from public;
grant execute on function outbox.cancel_replay to outbox_operator;
