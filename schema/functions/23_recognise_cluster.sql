-- Takes this cluster for the one that the log belongs to from now on.
--
-- Called by: a relay that is the first one, or that vouches: what it knew to be durable is still there.
-- Locks:     the one row of outbox.cluster.
-- Raises:    nothing. Not from inside a savepoint: the row would carry the xid of the subtransaction.
create or replace function outbox.recognise_cluster() returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$
  insert into outbox.cluster as c (system_identifier, timeline, server_major, database_oid)
  select here.system_identifier, here.timeline, here.server_major, here.database_oid from outbox.cluster_now() as here
  on conflict (is_only) do update set
    xid = pg_current_xact_id(), system_identifier = excluded.system_identifier, timeline = excluded.timeline,
    server_major = excluded.server_major, database_oid = excluded.database_oid, recognised_at = excluded.recognised_at
$$;

comment on function outbox.recognise_cluster is 'Takes this cluster for the one that the log belongs to from now on.';

revoke all on function outbox.recognise_cluster from public;
grant execute on function outbox.recognise_cluster to outbox_relay;
