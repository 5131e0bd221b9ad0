-- A relay that is shutting down has no share of the lanes: the others take each of its lanes as soon as it is drained.

alter table outbox.relays add column leaving_at timestamptz;

comment on column outbox.relays.leaving_at is 'When it began to shut down. It takes no lane from then on, and keeps those that it has until they are drained.';
