-- Which cluster this is. Xids and snapshots mean something only in the cluster that gave them, and a restore forgets
-- receipts that the API remembers: a relay compares before it begins, and while it works.

create table outbox.cluster (
  is_only boolean primary key default true,
  xid xid8 not null default pg_current_xact_id(),
  system_identifier bigint,
  timeline integer,
  server_major integer not null,
  database_oid oid not null,
  recognised_at timestamptz not null default clock_timestamp(),
  verify_only_since timestamptz,
  verify_only_reason text,
  known_until timestamptz,
  must_rebase boolean not null default false,
  verified_at timestamptz,
  constraint there_is_one_cluster check (is_only),
  constraint verify_only_has_a_reason check ((verify_only_since is null) = (verify_only_reason is null))
);

comment on table outbox.cluster is 'The cluster and database that the log belongs to: one row, written by the first relay, at a failover and around a recovery.';
comment on column outbox.cluster.is_only is 'True: there is one row.';
comment on column outbox.cluster.xid is 'The transaction that wrote this row. Where PostgreSQL''s own xmin of the row differs, the row was copied, by a dump or by logical replication.';
comment on column outbox.cluster.system_identifier is 'The cluster''s, from pg_control_system(); null where that may not be read.';
comment on column outbox.cluster.timeline is 'The timeline that the cluster writes; null where that may not be read. A promotion and a point-in-time restore begin a new one.';
comment on column outbox.cluster.server_major is 'The server''s major version: pg_upgrade changes it together with system_identifier.';
comment on column outbox.cluster.database_oid is 'The database within its cluster: a copy made with create database ... template has another.';
comment on column outbox.cluster.recognised_at is 'When a relay last took this cluster for the right one.';
comment on column outbox.cluster.verify_only_since is 'Since then no relay works and no intent is written, until outbox.end_verify_only(); null while all is well.';
comment on column outbox.cluster.verify_only_reason is 'One sentence: what was found.';
comment on column outbox.cluster.known_until is 'What the log knows of is whole up to this instant; what was published later may be missing in it.';
comment on column outbox.cluster.must_rebase is 'The xids of events and cursors are another cluster''s: outbox.end_verify_only() gives new ones.';
comment on column outbox.cluster.verified_at is 'When all that would be published again was last looked for at the API.';

grant select on outbox.cluster to outbox_relay, outbox_operator;
