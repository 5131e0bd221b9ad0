-- Relays that are not retired are few, and are told apart row by row by the database's clock, which searches no index: an
-- index on when a lease ends served nobody, and had every renewal write new versions into all indexes of the table that
-- each emitter's bell reads.
drop index outbox.relays_not_retired;
create index relays_not_retired on outbox.relays (id) where retired_at is null;
