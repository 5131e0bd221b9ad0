-- What people change, and why: the audit, and replays of many events.
--
--   insert-only      operations, replayed_events
--   small, mutable   replays: a row for each replay of many events, written again when it is cancelled

create table outbox.operations (
  id bigint generated always as identity primary key,
  operation text not null,
  event_id bigint,
  key text,
  event_count bigint not null,
  detail jsonb not null,
  reason text,
  requested_by text not null default session_user,
  client text not null default current_setting('application_name'),
  requested_at timestamptz not null default clock_timestamp(),
  constraint an_operation_has_a_name check (operation <> ''),
  constraint a_detail_is_an_object check (jsonb_typeof(detail) = 'object')
);
create index operations_by_event on outbox.operations (event_id) where event_id is not null;
create index operations_by_requested_at on outbox.operations (requested_at);

comment on table outbox.operations is 'The audit: every change by hand, in the transaction of the change. Insert-only; outbox.prune() deletes what is older than the retention.';
comment on column outbox.operations.id is 'Identity.';
comment on column outbox.operations.operation is 'What was done: replay, cancel, hold, release, prune, account, ...';
comment on column outbox.operations.event_id is 'The event, where it was about one.';
comment on column outbox.operations.key is 'The key, where it was about one.';
comment on column outbox.operations.event_count is 'How many events it was about; of a replay by a filter, how many fitted when it began.';
comment on column outbox.operations.detail is 'The arguments, without secrets.';
comment on column outbox.operations.reason is 'Why, in the operator''s words.';
comment on column outbox.operations.requested_by is 'The database role that logged in.';
comment on column outbox.operations.client is 'The application_name of the connection; the command line puts the user and the host into it.';
comment on column outbox.operations.requested_at is 'When.';

create table outbox.replays (
  id bigint generated always as identity primary key,
  operation_id bigint not null,
  filter jsonb not null,
  rate_per_second float8,
  count_max bigint not null,
  force boolean not null,
  events_until bigint not null,
  begun_at timestamptz not null default clock_timestamp(),
  cancelled_at timestamptz,
  constraint a_rate_is_positive check (rate_per_second > 0 and rate_per_second <= 10000),
  constraint a_replay_has_a_bound check (count_max > 0),
  constraint a_filter_is_an_object check (jsonb_typeof(filter) = 'object')
);

comment on table outbox.replays is 'Replays of many events by a filter. What each has emitted so far is in outbox.replayed_events, so that it can go on where it stopped.';
comment on column outbox.replays.id is 'Identity.';
comment on column outbox.replays.operation_id is 'Its row in the audit: by whom, why, and how many events fitted when it began.';
comment on column outbox.replays.filter is 'Which events: states, type, key, reason, error (a part of its text), since, until.';
comment on column outbox.replays.rate_per_second is 'So many events a second, by publish_at; null is at once.';
comment on column outbox.replays.count_max is 'It emits so many events at most.';
comment on column outbox.replays.force is 'Even what may be live.';
comment on column outbox.replays.events_until is 'Events after this id came after it began, and are none of it: what it emits and dies again is not replayed by it.';
comment on column outbox.replays.begun_at is 'When it began; what ended later is none of it.';
comment on column outbox.replays.cancelled_at is 'When it was cancelled: it emits no more.';

create table outbox.replayed_events (
  event_id bigint primary key,
  replay_id bigint not null
);
create index replayed_events_by_replay on outbox.replayed_events (replay_id, event_id);

comment on table outbox.replayed_events is 'What replays of many events have emitted. Insert-only; a row goes with its event.';
comment on column outbox.replayed_events.event_id is 'The event that was emitted; its replay_of names the one that is replayed.';
comment on column outbox.replayed_events.replay_id is 'The replay, a row of outbox.replays.';

grant select on outbox.operations, outbox.replays, outbox.replayed_events to outbox_operator;

-- Each gets a reason as its last argument; a second function beside it would make calls ambiguous.
drop function if exists outbox.replay(bigint, boolean);
drop function if exists outbox.release(text);
drop function if exists outbox.prune(interval, integer, boolean);
