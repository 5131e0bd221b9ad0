-- A replay of many events goes through those that failed by their ids, slice by slice, and finds them among any number
-- that were published.

drop index outbox.receipts_by_outcome;
create index receipts_not_published on outbox.receipts (event_id, settled_at) where outcome <> 'published';
