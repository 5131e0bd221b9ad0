-- Which event was in the hands of a handler when a relay died: written only for what a dead relay may have left behind.

create table outbox.dispatches (
  event_id bigint not null,
  relay_id bigint not null,
  dispatched_at timestamptz not null default clock_timestamp(),
  primary key (event_id, relay_id)
);

comment on table outbox.dispatches is
  'Suspects of having killed a relay: dispatches of what a dead relay may have left behind. A row goes with the dispatch''s outcome; one whose relay died stays, and counts as a crash.';
comment on column outbox.dispatches.event_id is 'The event.';
comment on column outbox.dispatches.relay_id is 'The relay incarnation whose handler got it.';
comment on column outbox.dispatches.dispatched_at is 'When the handler was about to be called.';

grant select on outbox.dispatches to outbox_relay, outbox_operator;
grant insert, delete on outbox.dispatches to outbox_relay;
