-- How many events a replay has not emitted yet, those that it would refuse included.
--
-- Called by: operators, through `outbox replay --resume`.
-- Locks:     none.
-- Raises:    OB009 there is no such replay, or it was cancelled.
create or replace function outbox.count_replayable(replay_id bigint) returns bigint
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  begun outbox.replays;
  emitted_count bigint;
begin
  select * into begun from outbox.replays as p where p.id = count_replayable.replay_id;
  if not found or begun.cancelled_at is not null then
    raise exception 'replay % %', count_replayable.replay_id,
      case when begun.id is null then 'does not exist' else 'was cancelled: begin another one' end
      using errcode = 'OB009';
  end if;
  select count(*) into emitted_count from outbox.replayed_events as m where m.replay_id = begun.id;
  return (
    select count(*)
    from outbox.replayable(begun.filter, 0, begun.events_until, begun.begun_at, begun.count_max - emitted_count)
  );
end
$$;

comment on function outbox.count_replayable is 'How many events a replay has not emitted yet.';

revoke all on function outbox.count_replayable from public;
grant execute on function outbox.count_replayable to outbox_operator;
