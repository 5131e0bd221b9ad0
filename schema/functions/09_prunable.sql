-- Events that may be deleted: they ended longer ago than the retention, and every cursor has passed them. Oldest
-- first, at most so many, of those after an id.
--
-- Called by: outbox.prune(), which goes on after its last batch, with that one's instant; `outbox prune --dry-run`.
-- Locks:     none.
-- Raises:    OB008 the retention is shorter than two days, or there is no limit.
--
-- A receipt is the proof that the event ended. What is visible in the `seen` snapshot of its lane's cursor lies before
-- the cursor's window: no relay that begins there reads it again. Two days, because a story is live for one, and
-- reconciling tells an event's story from others' by the steps of those that published them.
--
-- Ids rise with created_at, but for the instant between the two, and an event ends after it was created: bisecting
-- for the first id that is too young spares an index that every event and every receipt would have to pay for. The
-- receipts are walked, whatever the planner thinks (offset 0), and not the events: what waits for years has none.
create or replace function outbox.prunable(
  retention interval, count_max integer, after bigint default 0, ended_before timestamptz default null
) returns setof bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  instant timestamptz := coalesce(prunable.ended_before, clock_timestamp() - prunable.retention);
  lower_id bigint;
  upper_id bigint;
  middle_id bigint;
  found_id bigint;
  found_at timestamptz;
begin
  if (prunable.retention >= interval '2 days' and prunable.count_max >= 0) is not true then
    raise exception 'expected a retention of 2 days at least, found %: what published the stories that are live must be known',
      coalesce(prunable.retention::text, 'none')
      using errcode = 'OB008';
  end if;
  select min(e.id), max(e.id) + 1 into lower_id, upper_id from outbox.events as e;
  while lower_id < upper_id loop
    middle_id := lower_id + (upper_id - lower_id) / 2;
    select e.id, e.created_at into found_id, found_at
    from outbox.events as e where e.id >= middle_id order by e.id limit 1;
    if found and found_at < instant then
      lower_id := found_id + 1;
    else
      upper_id := middle_id;
    end if;
  end loop;
  return query
    select r.event_id
    from outbox.receipts as r
    cross join lateral (select e.xid, e.lane from outbox.events as e where e.id = r.event_id offset 0) as e
    where r.event_id > prunable.after and r.event_id < lower_id and r.settled_at < instant
      and pg_visible_in_snapshot(e.xid, (select c.seen from outbox.cursors as c where c.lane = e.lane))
    order by r.event_id
    limit prunable.count_max;
end
$$;

comment on function outbox.prunable is 'Events that ended longer ago than the retention and that every cursor has passed, oldest first.';

revoke all on function outbox.prunable from public;
grant execute on function outbox.prunable to outbox_operator, outbox_relay;
