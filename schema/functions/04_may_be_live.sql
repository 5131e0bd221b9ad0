-- Whether what an event publishes may be live: it was published, or an irreversible call was begun whose refusal,
-- or absence afterwards, nobody has shown.
--
-- Called by: outbox.replay(), the command line.
-- Locks:     none.
-- Raises:    nothing.
create or replace function outbox.may_be_live(event_id bigint) returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select
    exists (
      select from outbox.receipts as r where r.event_id = may_be_live.event_id and r.outcome = 'published'
    )
    or exists (
      select from outbox.steps as intent
      where intent.event_id = may_be_live.event_id and intent.state = 'intent'
        and not exists (
          select from outbox.steps as answer
          where answer.event_id = intent.event_id and answer.name = intent.name
            and answer.position > intent.position and answer.state = 'refused'
        )
    )
$$;

comment on function outbox.may_be_live is 'True when the event was published, or may have been: an intent without a refusal after it.';

revoke all on function outbox.may_be_live from public;
grant execute on function outbox.may_be_live to outbox_operator;
