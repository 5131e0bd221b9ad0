-- What people decide about irreversible calls of which nobody knows what became.

create table outbox.resolutions (
  event_id bigint not null,
  position integer not null,
  name text not null,
  published boolean not null,
  remote_id text,
  reason text,
  requested_by text not null default session_user,
  requested_at timestamptz not null default clock_timestamp(),
  primary key (event_id, position),
  constraint only_what_is_published_has_a_remote_id check (published or remote_id is null)
);

comment on table outbox.resolutions is 'Decisions of people about open intents. Insert-only; the relay turns one into a step: done, or refused, and goes on.';
comment on column outbox.resolutions.event_id is 'The event.';
comment on column outbox.resolutions.position is 'The intent that is decided, a row of outbox.steps: a later one of the same event is another question.';
comment on column outbox.resolutions.name is 'The intent''s step.';
comment on column outbox.resolutions.published is 'True: it happened. False: it certainly did not, and may be tried again.';
comment on column outbox.resolutions.remote_id is 'What went live; null where nobody can tell its id.';
comment on column outbox.resolutions.reason is 'Why, in the operator''s words.';
comment on column outbox.resolutions.requested_by is 'Who decided.';
comment on column outbox.resolutions.requested_at is 'When.';

grant select on outbox.resolutions to outbox_relay, outbox_operator;
