-- Emits the next slice of a replay, in the caller's transaction, and returns what became of each event. Call it, each
-- time in a new transaction and with the last event_id as `after`, until it returns no row. From 0 again it goes on where
-- it was stopped: what was replayed is left out.
--
-- With a rate, each event's publish_at is its turn after the one before, the first one's now or after the last one that
-- the replay has emitted: nobody has to stay for that.
--
-- Called by: operators, through `outbox replay` or psql.
-- Locks:     the replay's row: one slice of a replay at a time.
-- Raises:    OB009 there is no such replay, or it was cancelled.
--
-- outcome is replayed, already_replayed (by somebody else, just now), or refused: it may be live and force was not given.
create or replace function outbox.continue_replay(replay_id bigint, after bigint default 0, slice bigint default 1000)
returns table (event_id bigint, outcome text, replayed_as bigint, publish_at timestamptz)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  begun outbox.replays;
  emitted_count bigint;
  turn timestamptz;
begin
  select * into begun from outbox.replays as p where p.id = continue_replay.replay_id for update;
  if not found then
    raise exception 'replay % does not exist', continue_replay.replay_id using errcode = 'OB009';
  end if;
  if begun.cancelled_at is not null then
    raise exception 'replay % was cancelled: begin another one', continue_replay.replay_id using errcode = 'OB009';
  end if;
  select count(*) into emitted_count from outbox.replayed_events as m where m.replay_id = begun.id;
  select e.publish_at into turn
  from outbox.events as e
  where e.id = (select max(m.event_id) from outbox.replayed_events as m where m.replay_id = begun.id);
  for continue_replay.event_id in
    select * from outbox.replayable(
      begun.filter, continue_replay.after, begun.events_until, begun.begun_at,
      least(continue_replay.slice, begun.count_max - emitted_count)
    )
  loop
    outcome := 'refused';
    replayed_as := null;
    publish_at := null;
    if begun.force or not outbox.may_be_live(continue_replay.event_id) then
      if begun.rate_per_second is not null then
        publish_at := greatest(turn + interval '1 second' / begun.rate_per_second, clock_timestamp());
      end if;
      replayed_as := outbox.emit_again(continue_replay.event_id, publish_at);
      insert into outbox.replayed_events (event_id, replay_id)
      select e.id, begun.id from outbox.events as e
      where e.id = replayed_as and e.xid = pg_current_xact_id()
      on conflict do nothing;
      outcome := case when found then 'replayed' else 'already_replayed' end;
      turn := case when found then publish_at else turn end;
    end if;
    return next;
  end loop;
end
$$;

comment on function outbox.continue_replay is 'Emits the next slice of a replay; call it until it returns no row.';

revoke all on function outbox.continue_replay from public;
grant execute on function outbox.continue_replay to outbox_operator;
