-- Compares the cluster with the one that the log belongs to, and says whether relays may only verify.
--
--   new       no relay has worked here yet
--   same      nothing has changed
--   promoted  a new timeline: a failover that kept everything, or a restore to an earlier point
--   upgraded  pg_upgrade: another cluster of a newer major version with the same rows, byte by byte, and xids that go on
--   copied    a dump or logical replication brought the rows here: their xids are another cluster's
--   ahead     an event or a cursor carries an xid that this cluster has not reached
--   moved     the same rows in another cluster of the same version
--   cloned    the same rows in another database of the same cluster
--
-- Called by: relays, before they begin and while they work; `outbox recover`.
-- Locks:     none.
-- Raises:    nothing.
--
-- A row that was written here carries its own xid in PostgreSQL's xmin, whatever vacuum, freezing or pg_upgrade do; a row
-- that was copied carries the xid of the copying.
create or replace function outbox.compare_cluster(
  out finding text, out verify_only_since timestamptz, out verify_only_reason text
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  known outbox.cluster;
  is_known boolean;
  is_original boolean;
  are_original boolean;
  next_xid xid8 := pg_snapshot_xmax(pg_current_snapshot());
  here record;
begin
  select * into here from outbox.cluster_now();
  select * into known from outbox.cluster;
  is_known := found;
  select c.xmin::text::numeric = c.xid::text::numeric % 4294967296 into is_original from outbox.cluster as c;
  verify_only_since := known.verify_only_since;
  verify_only_reason := known.verify_only_reason;
  if (select e.xid from outbox.events as e order by e.xid desc limit 1) >= next_xid
    or exists (
      select from outbox.cursors as c where pg_snapshot_xmax(c.seen) > next_xid or pg_snapshot_xmax(c."window") > next_xid
    )
  then
    finding := 'ahead';
  elsif not is_known then
    finding := 'new';
  elsif not is_original then
    finding := 'copied';
  elsif here.system_identifier <> known.system_identifier then
    -- One copying transaction would have given all rows one xmin; those that a rebase stamped share one by right.
    select count(distinct e.xmin::text) >= count(distinct e.xid) filter (where e.xid > '3'::xid8) into are_original
    from (select s.xmin, s.xid from outbox.events as s order by s.id desc limit 100) as e;
    finding := case
      when not are_original then 'copied'
      when here.server_major > known.server_major then 'upgraded'
      else 'moved'
    end;
  elsif here.database_oid <> known.database_oid then
    finding := 'cloned';
  elsif here.timeline <> known.timeline then
    finding := 'promoted';
  else
    finding := 'same';
  end if;
end
$$;

comment on function outbox.compare_cluster is 'Compares the cluster with the one that the log belongs to, and says whether relays may only verify.';

revoke all on function outbox.compare_cluster from public;
grant execute on function outbox.compare_cluster to outbox_relay, outbox_operator;
