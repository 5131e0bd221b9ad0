-- Deletes events that ended longer ago than the retention, with all that is recorded of them (receipts, steps, attempts,
-- cancellations, resolutions, dispatches, which replay emitted them): at most `batch` of them in the caller's transaction.
-- Returns how many; call it again, in a new transaction, until it returns 0. The call that finds less than a batch also
-- deletes the relays that were retired longer ago than that and own no lane, and the audit's rows and replays that are older.
--
-- Called by: the relay, on a schedule; operators, through `outbox prune` or psql.
-- Locks:     an advisory lock of the transaction, so that one prunes at a time: with wait it is waited for, without
--            it the function returns null where another holds it. Then the rows that it deletes: what has ended and
--            lies before every cursor is nobody else's.
-- Raises:    OB008 the retention is shorter than two days, or the batch less than 1.
--
-- Each call goes on after the last event that the one before deleted: what must stay is walked once, not once a batch.
-- Where that finds less than a batch, it begins again at the oldest: what was passed may have become old enough.
--
-- A dedupe key lives as long as its event. Emitting it again after the retention is a new event; and so a variant
-- that was published, is taken back to draft and is approved again after the retention is published again (only an
-- approval emits: nothing happens by itself). What was replayed can't be replayed twice, for the event that was
-- replayed is deleted first: it has the lower id, ended before, and one instant counts from the oldest to the youngest.
create or replace function outbox.prune(retention interval, batch integer, wait boolean default true, reason text default null)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  retired_before timestamptz := clock_timestamp() - prune.retention;
  goes_on outbox.pruning;
  event_ids bigint[];
  deleted_count bigint := 0;
begin
  if (prune.batch >= 1) is not true then
    raise exception 'expected a batch of 1 event at least, found %', coalesce(prune.batch::text, 'none') using errcode = 'OB008';
  end if;
  if prune.wait then
    perform pg_advisory_xact_lock(hashtextextended('outbox.prune', 0));
  elsif not pg_try_advisory_xact_lock(hashtextextended('outbox.prune', 0)) then
    return null;
  end if;
  select * into goes_on from outbox.pruning as p where p.retention = prune.retention;
  loop
    event_ids := array(
      select outbox.prunable(
        prune.retention, (prune.batch - deleted_count)::integer, coalesce(goes_on.passed_id, 0),
        coalesce(goes_on.ended_before, retired_before)
      )
    );
    delete from outbox.attempts as a where a.event_id = any (event_ids);
    delete from outbox.steps as s where s.event_id = any (event_ids);
    delete from outbox.cancellations as c where c.event_id = any (event_ids);
    delete from outbox.resolutions as d where d.event_id = any (event_ids);
    delete from outbox.dispatches as d where d.event_id = any (event_ids);
    delete from outbox.replayed_events as m where m.event_id = any (event_ids);
    delete from outbox.receipts as r where r.event_id = any (event_ids);
    delete from outbox.events as e where e.id = any (event_ids);
    deleted_count := deleted_count + cardinality(event_ids);
    exit when deleted_count = prune.batch or goes_on is null;
    goes_on := null;
  end loop;
  if deleted_count = prune.batch then
    insert into outbox.pruning (retention, ended_before, passed_id)
    values (prune.retention, coalesce(goes_on.ended_before, retired_before), event_ids[cardinality(event_ids)])
    on conflict (is_only) do update
    set retention = excluded.retention, ended_before = excluded.ended_before, passed_id = excluded.passed_id;
  else
    delete from outbox.pruning;
    -- A lane whose owner has no row would never be taken again.
    delete from outbox.relays as r
    where r.retired_at < retired_before and not exists (select from outbox.lanes as l where l.relay_id = r.id);
    delete from outbox.operations as o where o.requested_at < retired_before;
    delete from outbox.replays as p
    where p.begun_at < retired_before and not exists (select from outbox.replayed_events as m where m.replay_id = p.id);
  end if;
  if deleted_count > 0 then
    perform outbox.record(
      'prune', deleted_count, prune.reason, detail => jsonb_build_object('retention', prune.retention)
    );
  end if;
  return deleted_count;
end
$$;

comment on function outbox.prune is 'Deletes at most a batch of events that ended longer ago than the retention; returns how many. Call it until it returns 0.';

revoke all on function outbox.prune from public;
grant execute on function outbox.prune to outbox_operator, outbox_relay;
