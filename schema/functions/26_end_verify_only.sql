-- Lets relays work again. Where the xids are another cluster's, it gives the log new ones first: the one exception to
-- "events are insert-only". Returns how many events were stamped.
--
-- Called by: operators, through `outbox recover --confirm`.
-- Locks:     the one row of outbox.cluster; the relays that are not retired, which it retires: none of them writes any
--            more; the lanes; the events that it stamps; the cursors.
-- Raises:    OB012 relays are not held to verifying; OB013 nobody has verified; OB014 the transaction has written before, or
--            it is called inside a savepoint.
--
-- The snapshot first, the xid then: every transaction that the snapshot shows as ended lies below its xmax, ours does
-- not, and so what we stamp with our own xid is new to whoever reads on from that snapshot. What has ended or waits must
-- never be new again: it gets an xid below all others, which every snapshot shows.
create or replace function outbox.end_verify_only(reason text default null) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  before_us constant pg_snapshot := pg_current_snapshot();
  before_all constant xid8 := '3';
  known outbox.cluster;
  current_xid xid8;
  stamped_count bigint := 0;
begin
  if pg_current_xact_id_if_assigned() is not null or current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'expected a transaction of its own, READ COMMITTED, found one that has written, or another isolation'
      using errcode = 'OB014';
  end if;
  select * into known from outbox.cluster as c for update;
  if known.verify_only_since is null then
    raise exception 'relays are not held to verifying: there is nothing to recover' using errcode = 'OB012';
  end if;
  if known.verified_at is null then
    raise exception 'nobody has looked for what would be published again: run outbox recover --verify first'
      using errcode = 'OB013';
  end if;
  current_xid := pg_current_xact_id();
  update outbox.relays as r set retired_at = clock_timestamp() where r.retired_at is null;
  update outbox.lanes as l set relay_id = null where l.relay_id is not null;
  if known.must_rebase then
    update outbox.events as e
    set xid = case when s.is_settled then before_all else current_xid end
    from (
      select
        n.id,
        exists (select from outbox.receipts as r where r.event_id = n.id)
        or exists (select from outbox.waiting as w where w.event_id = n.id) as is_settled
      from outbox.events as n
    ) as s
    where s.id = e.id and (not s.is_settled or e.xid >= pg_snapshot_xmin(before_us));
    get diagnostics stamped_count = row_count;
    update outbox.cursors as c set seen = before_us, "window" = before_us, position = 0, saved_at = clock_timestamp();
  end if;
  update outbox.cluster as c set
    xid = current_xid, verify_only_since = null, verify_only_reason = null, known_until = null, must_rebase = false,
    verified_at = null, recognised_at = clock_timestamp();
  perform outbox.refuse_savepoint();
  perform outbox.record(
    'end_verify_only', stamped_count, coalesce(end_verify_only.reason, known.verify_only_reason),
    detail => jsonb_build_object('began', known.verify_only_since, 'because', known.verify_only_reason)
  );
  perform outbox.notify('lanes');
  return stamped_count;
end
$$;

comment on function outbox.end_verify_only is 'Lets relays work again, with new xids for the log where its own are another cluster''s; returns how many events were stamped.';

revoke all on function outbox.end_verify_only from public;
grant execute on function outbox.end_verify_only to outbox_operator;
