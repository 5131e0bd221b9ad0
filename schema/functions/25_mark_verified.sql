-- Notes that all that would be published again was looked for at the API.
--
-- Called by: `outbox recover --verify`, when nothing is left that it could not look for.
-- Locks:     the one row of outbox.cluster.
-- Raises:    OB012 relays are not held to verifying; OB014 it is called inside a savepoint.
create or replace function outbox.mark_verified(reason text default null) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update outbox.cluster as c set xid = pg_current_xact_id(), verified_at = clock_timestamp() where c.verify_only_since is not null;
  if not found then
    raise exception 'relays are not held to verifying: there is nothing to recover' using errcode = 'OB012';
  end if;
  perform outbox.refuse_savepoint();
  perform outbox.record('mark_verified', 0, mark_verified.reason);
end
$$;

comment on function outbox.mark_verified is 'Notes that all that would be published again was looked for at the API.';

revoke all on function outbox.mark_verified from public;
grant execute on function outbox.mark_verified to outbox_relay, outbox_operator;
