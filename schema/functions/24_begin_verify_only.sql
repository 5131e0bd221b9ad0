-- From the commit on no relay begins, those that work stop, and no intent is written, until outbox.end_verify_only().
--
-- Called by: a relay that finds a cluster that it can't vouch for; operators, through `outbox recover --begin`, after a
--            restore that nothing in the database tells of, such as a file system's snapshot that was put back.
-- Locks:     the one row of outbox.cluster.
-- Raises:    OB014 it is called inside a savepoint.
--
-- Commits are kept in order: what has left a row with a time, nothing that was written before that time is missing.
create or replace function outbox.begin_verify_only(reason text, must_rebase boolean default false) returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$
  insert into outbox.cluster as c (
    system_identifier, timeline, server_major, database_oid, verify_only_since, verify_only_reason, must_rebase, known_until
  )
  select
    here.system_identifier, here.timeline, here.server_major, here.database_oid, clock_timestamp(),
    begin_verify_only.reason,
    -- This write makes the row an original: what tells of a copy is gone afterwards.
    begin_verify_only.must_rebase or (select k.finding in ('copied', 'ahead') from outbox.compare_cluster() as k),
    (
      select max(instants.at)
      from (
        select max(s.saved_at) as at from outbox.cursors as s
        union all select max(greatest(r.started_at, r.retired_at)) from outbox.relays as r
        union all select max(w.waiting_since) from outbox.waiting as w
        union all (select e.created_at from outbox.events as e order by e.id desc limit 1)
        union all (select p.settled_at from outbox.receipts as p order by p.event_id desc limit 1)
        union all (select s.created_at from outbox.steps as s order by s.event_id desc, s.position desc limit 1)
      ) as instants
    )
  from outbox.cluster_now() as here
  on conflict (is_only) do update set
    xid = pg_current_xact_id(), system_identifier = excluded.system_identifier, timeline = excluded.timeline,
    server_major = excluded.server_major, database_oid = excluded.database_oid,
    verify_only_since = coalesce(c.verify_only_since, excluded.verify_only_since),
    verify_only_reason = coalesce(c.verify_only_reason, excluded.verify_only_reason),
    known_until = least(c.known_until, excluded.known_until),
    must_rebase = c.must_rebase or excluded.must_rebase,
    verified_at = null;
  select outbox.refuse_savepoint();
  select outbox.record('begin_verify_only', 0, begin_verify_only.reason);
  select outbox.notify('cluster');
$$;

comment on function outbox.begin_verify_only is 'From the commit on no relay works and no intent is written, until outbox.end_verify_only().';

revoke all on function outbox.begin_verify_only from public;
grant execute on function outbox.begin_verify_only to outbox_relay, outbox_operator;
