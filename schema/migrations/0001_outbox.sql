-- The engine's tables. What changes how:
--
--   insert-only      events, receipts, steps, attempts, cancellations
--   small, mutable   waiting, holds
--   rarely written   relays (a renewal every few seconds), lanes
--   every few s      cursors; apart from lanes, because writers read lanes
--
-- No foreign keys between the insert-only tables: checking one locks, and therefore dirties, the referenced row.

do $$
declare
  role_name text;
begin
  foreach role_name in array array['outbox_emitter', 'outbox_relay', 'outbox_operator'] loop
    -- Roles belong to the cluster: another database, or an administrator beforehand, may have made them.
    if not exists (select from pg_roles where rolname = role_name) then
      begin
        execute format('create role %I nologin', role_name);
      exception
        when duplicate_object or unique_violation then null;
      end;
    end if;
  end loop;
end
$$;

grant usage on schema outbox to outbox_emitter, outbox_relay, outbox_operator;

create table outbox.events (
  xid xid8 not null default pg_current_xact_id(),
  id bigint generated always as identity primary key,
  lane smallint not null,
  key text,
  sequence text,
  type text not null,
  payload jsonb not null,
  headers jsonb not null,
  dedupe_key text,
  publish_at timestamptz,
  expires_at timestamptz,
  replay_of bigint,
  created_at timestamptz not null default clock_timestamp(),
  constraint a_lane_is_between_0_and_63 check (lane between 0 and 63),
  constraint a_type_is_not_empty check (type <> ''),
  constraint a_payload_is_an_object check (jsonb_typeof(payload) = 'object'),
  constraint headers_are_an_object check (jsonb_typeof(headers) = 'object'),
  constraint a_sequence_needs_a_key check (sequence is null or key is not null),
  constraint an_event_expires_after_it_is_due check (expires_at > publish_at),
  -- Infinity is no instant to most languages: one such event would stop its readers.
  constraint instants_are_between_1970_and_9000 check (
    publish_at between '1970-01-01Z' and '9000-01-01Z' and expires_at between '1970-01-01Z' and '9000-01-01Z'
  )
);
create index events_by_xid on outbox.events (xid);
create unique index events_by_dedupe_key on outbox.events (dedupe_key) where dedupe_key is not null;
create index events_by_replay_of on outbox.events (replay_of) where replay_of is not null;

comment on table outbox.events is 'The log. Insert-only until outbox.prune() deletes what ended long ago; written by outbox.emit() alone, read by snapshot windows over xid.';
comment on column outbox.events.xid is 'The top-level transaction that emitted the event; windows of the log are ranges of it.';
comment on column outbox.events.id is 'Identity. Ids do not commit in order: never use one as a cursor.';
comment on column outbox.events.lane is 'Which of the 64 lanes the event travels in: hashtextextended(key, 0) & 63, or any lane without a key.';
comment on column outbox.events.key is 'Routes and limits: the publishing account. At most one event of a key is in flight.';
comment on column outbox.events.sequence is 'Events of the same key and sequence are published strictly in order; null orders nothing.';
comment on column outbox.events.type is 'Names the handler, for example variant.created.';
comment on column outbox.events.payload is 'What the handler needs: ids that are already resolved, as a JSON object.';
comment on column outbox.events.headers is 'About the event rather than for the handler: trace context, the emitting application.';
comment on column outbox.events.dedupe_key is 'Unique when given: emitting it again returns the first event''s id and writes nothing.';
comment on column outbox.events.publish_at is 'Not dispatched before this instant; null means at once.';
comment on column outbox.events.expires_at is 'Ends as expired when nothing irreversible was begun by this instant; null means never.';
comment on column outbox.events.replay_of is 'The event that this one replays.';
comment on column outbox.events.created_at is 'When emit() ran, by the clock, not by the start of the transaction.';

create table outbox.receipts (
  event_id bigint primary key,
  outcome text not null,
  reason text,
  attempts integer not null,
  deferrals integer not null,
  result jsonb,
  error text,
  relay_id bigint not null,
  dispatched_at timestamptz,
  settled_at timestamptz not null default clock_timestamp(),
  constraint an_outcome_ends_an_event check (outcome in ('published', 'dead', 'cancelled', 'expired'))
);
create index receipts_by_outcome on outbox.receipts (settled_at) where outcome <> 'published';

comment on table outbox.receipts is 'How an event ended. Insert-only, one row an event, written by the relay''s settler alone.';
comment on column outbox.receipts.event_id is 'The event.';
comment on column outbox.receipts.outcome is 'published, dead, cancelled or expired.';
comment on column outbox.receipts.reason is 'Why it is dead, in one word: variant_missing, invalid_payload, unknown_type, attempts_exhausted, ...';
comment on column outbox.receipts.attempts is 'Tries that failed, the last one included.';
comment on column outbox.receipts.deferrals is 'Times that the event waited without its being a failure.';
comment on column outbox.receipts.result is 'What the handler brought back: remote ids, permalink.';
comment on column outbox.receipts.error is 'One sentence: what went wrong last.';
comment on column outbox.receipts.relay_id is 'The relay incarnation that settled it.';
comment on column outbox.receipts.dispatched_at is 'When the last dispatch to the handler began; null when it never was dispatched.';
comment on column outbox.receipts.settled_at is 'When this row was written.';

create table outbox.steps (
  event_id bigint not null,
  position integer not null,
  name text not null,
  state text not null,
  fingerprint text,
  detail jsonb not null,
  relay_id bigint not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (event_id, position),
  constraint a_step_is_intent_done_or_refused check (state in ('intent', 'done', 'refused'))
);
-- Which event published this remote id? Reconciling excludes what the outbox knows already.
create index steps_by_remote_id on outbox.steps ((detail ->> 'remote_id')) where state = 'done' and detail ? 'remote_id';

comment on table outbox.steps is 'The ledger of a saga. Insert-only: an intent is durable before its irreversible call is made.';
comment on column outbox.steps.event_id is 'The event.';
comment on column outbox.steps.position is 'Counts up from 1 within the event. Two relays that write the same position collide: a second fence.';
comment on column outbox.steps.name is 'The step: container, publish, photo, video, ...';
comment on column outbox.steps.state is 'intent: about to call. done: it happened. refused: it certainly did not happen.';
comment on column outbox.steps.fingerprint is 'A digest of the request, to see that a repeated step is the same one.';
comment on column outbox.steps.detail is 'What reconciling needs (ids before the call), or the answer. remote_id names what went live.';
comment on column outbox.steps.relay_id is 'The relay incarnation that wrote it.';
comment on column outbox.steps.created_at is 'When it was written.';

create table outbox.attempts (
  id bigint generated always as identity primary key,
  event_id bigint not null,
  reason text not null,
  error text not null,
  context jsonb,
  relay_id bigint not null,
  created_at timestamptz not null default clock_timestamp()
);
create index attempts_by_event on outbox.attempts (event_id);

comment on table outbox.attempts is 'Every try that failed, or had its event wait, and had something to tell. Insert-only.';
comment on column outbox.attempts.id is 'Identity.';
comment on column outbox.attempts.event_id is 'The event.';
comment on column outbox.attempts.reason is 'Why the event waited after it, as in outbox.waiting.reason, or why it was dead, as in outbox.receipts.reason.';
comment on column outbox.attempts.error is 'One sentence: what was expected, what was found.';
comment on column outbox.attempts.context is 'The database context of the try (replica or primary, isolation, role, row security, ages), or the API''s error.';
comment on column outbox.attempts.relay_id is 'The relay incarnation that tried.';
comment on column outbox.attempts.created_at is 'When it was written.';

create table outbox.waiting (
  event_id bigint primary key,
  lane smallint not null,
  key text,
  sequence text,
  reason text not null,
  due_at timestamptz not null,
  attempts integer not null,
  deferrals integer not null,
  error text,
  waiting_since timestamptz not null default clock_timestamp(),
  constraint a_waiting_event_says_why
    check (reason in ('scheduled', 'retry', 'processing', 'missing', 'rate_limited', 'held', 'parked', 'unknown'))
);
create index waiting_by_due_at on outbox.waiting (due_at);
create index waiting_by_sequence on outbox.waiting (key, sequence, event_id) where sequence is not null;

comment on table outbox.waiting is 'Events that could not end at first touch, and only those. Small and mutable; settling deletes the row.';
comment on column outbox.waiting.event_id is 'The event.';
comment on column outbox.waiting.lane is 'The event''s lane.';
comment on column outbox.waiting.key is 'The event''s key.';
comment on column outbox.waiting.sequence is 'The event''s sequence.';
comment on column outbox.waiting.reason is
  'scheduled: before publish_at. retry: a try failed. processing: the API works on it. missing: what the event names is not visible yet. '
  'rate_limited, held: its account or the app pauses. parked: behind another event of its sequence. unknown: may be live; reconcile.';
comment on column outbox.waiting.due_at is 'When to try again; infinity waits for another event or for a person.';
comment on column outbox.waiting.attempts is 'Tries that failed so far.';
comment on column outbox.waiting.deferrals is 'Waits so far that were no failure.';
comment on column outbox.waiting.error is 'One sentence: the last thing that went wrong.';
comment on column outbox.waiting.waiting_since is 'When the event began to wait.';

create table outbox.holds (
  scope text not null,
  key text not null default '',
  held_until timestamptz not null,
  reason text not null,
  held_by text not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (scope, key),
  constraint a_hold_is_on_a_key_or_on_the_app check ((scope = 'key' and key <> '') or (scope = 'app' and key = ''))
);

comment on table outbox.holds is 'A key or the whole app pauses until an instant. A hold in the past holds nothing.';
comment on column outbox.holds.scope is 'key or app.';
comment on column outbox.holds.key is 'The key that is held; empty for the app.';
comment on column outbox.holds.held_until is 'Events go on from here; infinity waits for a person.';
comment on column outbox.holds.reason is 'Why: rate_limited, token, account, unknown, or an operator''s words.';
comment on column outbox.holds.held_by is 'Who: a relay or an operator.';
comment on column outbox.holds.created_at is 'When the hold began.';

create table outbox.cancellations (
  event_id bigint primary key,
  requested_by text not null default session_user,
  reason text,
  requested_at timestamptz not null default clock_timestamp()
);

comment on table outbox.cancellations is 'Requests to cancel. Insert-only; from the row''s commit on no irreversible call of the event can begin.';
comment on column outbox.cancellations.event_id is 'The event.';
comment on column outbox.cancellations.requested_by is 'Who asked.';
comment on column outbox.cancellations.reason is 'Why, in the operator''s words.';
comment on column outbox.cancellations.requested_at is 'When it was asked.';

create table outbox.relays (
  id bigint generated always as identity primary key,
  name text not null,
  version text not null,
  started_at timestamptz not null default clock_timestamp(),
  leased_until timestamptz not null,
  awake_until timestamptz,
  retired_at timestamptz
);
create index relays_not_retired on outbox.relays (leased_until) where retired_at is null;

comment on table outbox.relays is 'One row for every incarnation of a relay. Its id is the fencing token of all that it writes.';
comment on column outbox.relays.id is 'The incarnation: new at every join, never used again.';
comment on column outbox.relays.name is 'Host and process, for people.';
comment on column outbox.relays.version is 'The relay''s release.';
comment on column outbox.relays.started_at is 'When it joined.';
comment on column outbox.relays.leased_until is 'It owns its lanes until then, renewed at a third of the time to live.';
comment on column outbox.relays.awake_until is 'The doorbell is muted until then: the relay polls and wants no NOTIFY. Null rings always.';
comment on column outbox.relays.retired_at is 'Set when it left or its lease ran out. A retired incarnation writes nothing any more.';

create table outbox.lanes (
  lane smallint primary key,
  relay_id bigint,
  constraint there_are_64_lanes check (lane between 0 and 63)
);
insert into outbox.lanes (lane) select generate_series(0, 63);

comment on table outbox.lanes is 'Who owns which lane. 64 rows for ever, written only when a lane changes hands: every emit reads one.';
comment on column outbox.lanes.lane is 'The lane, 0 to 63.';
comment on column outbox.lanes.relay_id is 'The relay incarnation that owns it; null when nobody does.';

create table outbox.cursors (
  lane smallint primary key,
  seen pg_snapshot not null default '1:1:',
  "window" pg_snapshot not null default '1:1:',
  position bigint not null default 0,
  saved_at timestamptz not null default clock_timestamp(),
  constraint there_are_64_cursors check (lane between 0 and 63)
);
insert into outbox.cursors (lane) select generate_series(0, 63);

comment on table outbox.cursors is 'How far each lane has been read and settled: the low-water mark. Everything before it has a receipt or waits.';
comment on column outbox.cursors.lane is 'The lane.';
comment on column outbox.cursors.seen is 'What was visible when the current window began.';
comment on column outbox.cursors."window" is 'What is visible in the current window: its events are visible here and were not in seen.';
comment on column outbox.cursors.position is 'Events of the current window up to this id are behind us.';
comment on column outbox.cursors.saved_at is 'When the cursor was written.';

create view outbox.event_states as
select
  e.id,
  e.type,
  e.key,
  e.sequence,
  coalesce(r.outcome, case when w.event_id is not null then 'waiting' else 'new' end) as state,
  coalesce(r.reason, w.reason) as reason,
  coalesce(r.attempts, w.attempts, 0) as attempts,
  coalesce(r.deferrals, w.deferrals, 0) as deferrals,
  coalesce(r.error, w.error) as error,
  r.result,
  w.due_at,
  e.publish_at,
  e.expires_at,
  e.replay_of,
  e.created_at,
  r.settled_at
from outbox.events as e
left join outbox.receipts as r on r.event_id = e.id
left join outbox.waiting as w on w.event_id = e.id;

comment on view outbox.event_states is 'Every event with its state, which is derived: a receipt says how it ended, a waiting row why it waits, neither that it is new or in flight.';
comment on column outbox.event_states.id is 'The event.';
comment on column outbox.event_states.type is 'Its type.';
comment on column outbox.event_states.key is 'Its key.';
comment on column outbox.event_states.sequence is 'Its sequence.';
comment on column outbox.event_states.state is 'new (or in flight), waiting, published, dead, cancelled or expired.';
comment on column outbox.event_states.reason is 'Why it waits, or why it is dead.';
comment on column outbox.event_states.attempts is 'Tries that failed.';
comment on column outbox.event_states.deferrals is 'Waits that were no failure.';
comment on column outbox.event_states.error is 'The last error, in one sentence.';
comment on column outbox.event_states.result is 'What the handler brought back.';
comment on column outbox.event_states.due_at is 'When a waiting event is tried again.';
comment on column outbox.event_states.publish_at is 'Not before.';
comment on column outbox.event_states.expires_at is 'Not after.';
comment on column outbox.event_states.replay_of is 'The event that it replays.';
comment on column outbox.event_states.created_at is 'When it was emitted.';
comment on column outbox.event_states.settled_at is 'When it ended.';

grant select on all tables in schema outbox to outbox_relay, outbox_operator;
grant insert on outbox.receipts, outbox.steps, outbox.attempts to outbox_relay;
grant insert, update, delete on outbox.waiting, outbox.holds to outbox_relay;
grant insert, update on outbox.relays to outbox_relay;
grant update on outbox.lanes, outbox.cursors to outbox_relay;
