-- Refuses to go on where the row of outbox.cluster was written inside a savepoint: it carries the xid of the subtransaction
-- in xmin, so that every relay would take it for a copy. psql's ON_ERROR_ROLLBACK sets savepoints unasked.
--
-- Called by: the four functions that write the row, after they have, as their owner; nobody else may.
-- Locks:     none.
-- Raises:    OB014 the row was written inside a savepoint, or a block of PL/pgSQL that catches errors.
create or replace function outbox.refuse_savepoint() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from outbox.cluster as c where c.xmin::text::numeric <> c.xid::text::numeric % 4294967296) then
    raise exception 'expected a transaction of its own, found a savepoint: the log would be taken for a copy of itself'
      using errcode = 'OB014', hint = 'in psql: \set ON_ERROR_ROLLBACK off';
  end if;
end
$$;

comment on function outbox.refuse_savepoint is 'Refuses to go on where the row of outbox.cluster was written inside a savepoint.';

revoke all on function outbox.refuse_savepoint from public;

-- Takes this cluster for the one that the log belongs to from now on.
--
-- Called by: a relay that is the first one, or that vouches: what it knew to be durable is still there.
-- Locks:     the one row of outbox.cluster.
-- Raises:    OB014 it is called inside a savepoint.
create or replace function outbox.recognise_cluster() returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$
  insert into outbox.cluster as c (system_identifier, timeline, server_major, database_oid)
  select here.system_identifier, here.timeline, here.server_major, here.database_oid from outbox.cluster_now() as here
  on conflict (is_only) do update set
    xid = pg_current_xact_id(), system_identifier = excluded.system_identifier, timeline = excluded.timeline,
    server_major = excluded.server_major, database_oid = excluded.database_oid, recognised_at = excluded.recognised_at;
  select outbox.refuse_savepoint();
$$;

comment on function outbox.recognise_cluster is 'Takes this cluster for the one that the log belongs to from now on.';

revoke all on function outbox.recognise_cluster from public;
grant execute on function outbox.recognise_cluster to outbox_relay;
