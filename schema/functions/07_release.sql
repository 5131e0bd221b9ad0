-- Ends the hold on a key, or on the whole app where the key is null, and makes what waits for it due at once. Of a key
-- also what is looked for: what kept the looks from telling may be over, and nothing else should be begun before.
--
-- Called by: operators; the command line, when an account gets a new token.
-- Locks:     the hold's row, then the rows in outbox.waiting that wait for it. A relay that parks an event for a hold
--            locks the hold first too, so that what it parks meanwhile is either seen here or finds no hold. Waiting rows
--            are locked in the order of their events, as relays do: neither waits for the other in a circle.
-- Raises:    nothing; returns how many events go on.
create or replace function outbox.release(key text, reason text default null) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  released_at timestamptz;
  released_count bigint;
begin
  delete from outbox.holds as h
  where h.scope = case when release.key is null then 'app' else 'key' end and h.key = coalesce(release.key, '');
  -- Due at one instant, they go on in the order of their ids.
  released_at := clock_timestamp();
  update outbox.waiting as w set due_at = released_at
  from (
    select held.event_id from outbox.waiting as held
    where (held.reason in ('held', 'rate_limited') and (release.key is null or held.key = release.key))
      or (held.reason = 'unknown' and held.due_at < 'infinity' and held.key = release.key)
    order by held.event_id
    for update
  ) as locked
  where w.event_id = locked.event_id;
  get diagnostics released_count = row_count;
  perform outbox.notify('holds');
  perform outbox.record('release', released_count, release.reason, key => release.key);
  return released_count;
end
$$;

comment on function outbox.release is 'Ends the hold on a key, or on the app where the key is null; returns how many events go on at once.';

revoke all on function outbox.release from public;
grant execute on function outbox.release to outbox_operator;
