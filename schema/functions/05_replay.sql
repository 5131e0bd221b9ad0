-- Emits an ended event once more and returns the new event's id. Replaying the same event twice returns the same id.
--
-- Called by: operators, through `outbox replay` or psql.
-- Locks:     none beyond the insert.
-- Raises:    OB001 no such event; OB002 it has not ended; OB003 it may be live and force was not given.
--
-- The deadline is not carried over: it has usually passed when somebody replays. In its sequence the replay is the last:
-- what was emitted after the original has gone on without it, and what still waits goes first.
create or replace function outbox.replay(event_id bigint, force boolean default false, reason text default null) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  ended text;
  replayed_as bigint;
begin
  if not exists (select from outbox.events as e where e.id = replay.event_id) then
    raise exception 'event % does not exist', replay.event_id using errcode = 'OB001';
  end if;
  select r.outcome into ended from outbox.receipts as r where r.event_id = replay.event_id;
  if not found then
    raise exception 'event % has not ended: cancel it first, or wait', replay.event_id using errcode = 'OB002';
  end if;
  if not force and outbox.may_be_live(replay.event_id) then
    raise exception 'event % ended as % and may be live: look at the account, then replay it with force', replay.event_id, ended
      using errcode = 'OB003';
  end if;
  select e.id into replayed_as from outbox.events as e where e.dedupe_key = 'replay:' || replay.event_id;
  if not found then
    replayed_as := outbox.emit_again(replay.event_id, null);
    perform outbox.record(
      'replay', 1, replay.reason, event_id => replay.event_id,
      detail => jsonb_build_object('replay_id', replayed_as, 'force', replay.force)
    );
  end if;
  return replayed_as;
end
$$;

comment on function outbox.replay is 'Emits an ended event once more. Refused when it may be live, unless force is given.';

revoke all on function outbox.replay from public;
grant execute on function outbox.replay to outbox_operator;
