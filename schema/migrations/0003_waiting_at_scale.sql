-- A million events may wait: what is due of a relay's lanes, what waits longest for a reason, and what is due of a busy
-- key are each the head of an index.

alter table outbox.waiting add column owed_since timestamptz;
update outbox.waiting as w set owed_since = greatest(e.created_at, e.publish_at)
from outbox.events as e
where e.id = w.event_id;

comment on column outbox.waiting.owed_since is
  'Since when the event should have ended: created_at, or publish_at where that is later. Null where a relay of an older release wrote the row.';

drop index outbox.waiting_by_due_at;
create index waiting_by_lane on outbox.waiting (lane, due_at, event_id);
create index waiting_by_key on outbox.waiting (key, due_at, event_id);
create index waiting_by_reason on outbox.waiting (reason, owed_since);
create index waiting_sequences on outbox.waiting (lane, key, sequence) where sequence is not null;

-- What waits is in indexes by its key: a longer one could be emitted and then not wait.
alter table outbox.events add constraint a_key_and_a_sequence_have_1000_bytes_at_most
  check (octet_length(key) <= 1000 and octet_length(sequence) <= 1000) not valid;
