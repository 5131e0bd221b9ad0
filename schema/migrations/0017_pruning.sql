-- Where the pruning that is going on has come to, so that each batch goes on where the one before ended.

create table outbox.pruning (
  is_only boolean primary key default true,
  retention interval not null,
  ended_before timestamptz not null,
  passed_id bigint not null,
  constraint there_is_one_pruning check (is_only)
);

comment on table outbox.pruning is 'Where outbox.prune() goes on: one row while more than its last batch may be left, none otherwise.';
comment on column outbox.pruning.is_only is 'True: there is one row.';
comment on column outbox.pruning.retention is 'Whose it is: another retention begins anew.';
comment on column outbox.pruning.ended_before is 'All its batches delete what ended before this instant.';
comment on column outbox.pruning.passed_id is 'The last event that was deleted.';

-- It gets two more arguments; a second function beside it would make calls ambiguous.
drop function if exists outbox.prunable(interval, integer);
