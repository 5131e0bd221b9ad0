-- Names and words that had fallen behind: the trigger heeds cancellations too, and a cancellation can't stop an intent that
-- is just being written.

drop trigger if exists heed_resolution on outbox.waiting;
drop function if exists outbox.heed_resolution();

comment on table outbox.cancellations is
  'Requests to cancel. Insert-only; an intent whose statement begins after the row''s commit is refused. One that is just being written may still be first, and the receipt tells.';
