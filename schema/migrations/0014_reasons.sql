-- Why somebody verified and confirmed after a restore, and since when a receipt counts its dispatch.

-- Each gets a reason as its last argument; a second function beside it would make calls ambiguous.
drop function if exists outbox.mark_verified();
drop function if exists outbox.end_verify_only();

comment on column outbox.receipts.dispatched_at is
  'When the relay that ended it called the handler for the first time since it had the event in hand; null when it never was dispatched.';
