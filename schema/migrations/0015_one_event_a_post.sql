-- A post is one event's: two decisions can't name the same one. And what is in doubt without an intent can be decided.

create unique index resolutions_by_remote_id on outbox.resolutions (remote_id) where remote_id is not null;

comment on column outbox.resolutions.position is
  'The intent that is decided, a row of outbox.steps, or without one the last step, 0 where there is none: what comes later is another question.';
comment on column outbox.resolutions.name is 'The intent''s step; publish without one.';
