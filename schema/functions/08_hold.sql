-- Holds a key, or the whole app where the key is null, until an instant; 'infinity' waits for outbox.release().
--
-- Called by: operators, through `outbox hold` or psql.
-- Locks:     the hold's row.
-- Raises:    OB006 the instant is not in the future, or finite and after the year 8999; OB007 a hold that ends later
--            stands already; 23514 the key is empty; 23502 there is no reason.
--
-- A hold is never shortened, neither by a relay nor by a person who does not know of the other one: to hold for less,
-- release first. A hold that ends at the same time or sooner is replaced, with its reason.
--
-- What is dispatched already goes on; what comes afterwards waits. A call whose answer was lost is looked for under the
-- hold, and not made once more before its end. Deadlines are not moved: an event whose expires_at
-- passes while it is held expires.
create or replace function outbox.hold(key text, held_until timestamptz, reason text) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  standing outbox.holds;
begin
  if (hold.held_until > clock_timestamp() and (hold.held_until < '9000-01-01Z' or hold.held_until = 'infinity')) is not true then
    raise exception 'expected an instant in the future to hold until, before the year 9000 or infinity, found %',
      coalesce(hold.held_until::text, 'none')
      using errcode = 'OB006';
  end if;
  insert into outbox.holds as h (scope, key, held_until, reason, held_by)
  values (
    case when hold.key is null then 'app' else 'key' end, coalesce(hold.key, ''), hold.held_until, hold.reason, session_user
  )
  on conflict (scope, key) do update set
    held_until = excluded.held_until, reason = excluded.reason, held_by = excluded.held_by, created_at = excluded.created_at
    where excluded.held_until >= h.held_until
  returning * into standing;
  if not found then
    select * into standing
    from outbox.holds as h
    where h.scope = case when hold.key is null then 'app' else 'key' end and h.key = coalesce(hold.key, '');
    raise exception '% is held by % % (%): release it first, to hold it for less',
      case when hold.key is null then 'the app' else 'the key ' || hold.key end, standing.held_by,
      case when standing.held_until = 'infinity' then 'until somebody releases it'
      else 'until ' || to_char(standing.held_until at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') end,
      standing.reason
      using errcode = 'OB007';
  end if;
  perform outbox.notify('holds');
  perform outbox.record(
    'hold', 0, hold.reason, key => hold.key, detail => jsonb_build_object('held_until', nullif(hold.held_until, 'infinity'))
  );
end
$$;

comment on function outbox.hold is 'Holds a key, or the app where the key is null, until an instant or, with infinity, until it is released. Never shortens a hold.';

revoke all on function outbox.hold from public;
grant execute on function outbox.hold to outbox_operator;
