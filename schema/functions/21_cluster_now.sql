-- The cluster and database that this session is connected to.
--
-- Called by: outbox.compare_cluster(), outbox.recognise_cluster(), outbox.begin_verify_only().
-- Locks:     none.
-- Raises:    nothing. What a hosting service does not let us read is null.
--
-- The timeline is that of the WAL being written: pg_control_checkpoint() shows the old one for a while after a promotion.
create or replace function outbox.cluster_now(
  out system_identifier bigint, out timeline integer, out server_major integer, out database_oid oid
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  server_major := current_setting('server_version_num')::integer / 10000;
  select d.oid into database_oid from pg_database as d where d.datname = current_database();
  begin
    select s.system_identifier into system_identifier from pg_control_system() as s;
  exception
    when insufficient_privilege or undefined_function or feature_not_supported then null;
  end;
  begin
    timeline := ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer;
  exception
    when insufficient_privilege or undefined_function or feature_not_supported or object_not_in_prerequisite_state then null;
  end;
end
$$;

comment on function outbox.cluster_now is 'The cluster and database that this session is connected to.';

revoke all on function outbox.cluster_now from public;
