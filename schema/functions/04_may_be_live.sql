-- Whether what an event publishes may be live: it was published, or a step says that something went live, or an
-- irreversible call was begun whose refusal, or absence afterwards, nobody has shown.
--
-- Called by: outbox.replay(), outbox.continue_replay(), outbox.heed_people(), social.event_that_came_to_nothing(); operators,
--            through `outbox show`. outbox/ledger.py has the same rule for steps.
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
      select from outbox.steps as step
      where step.event_id = may_be_live.event_id
        and (
          -- What recovery finds live is done without an intent before it.
          (step.state = 'done' and step.detail ? 'remote_id')
          or (
            step.state = 'intent'
            and not exists (
              select from outbox.steps as answer
              where answer.event_id = step.event_id and answer.name = step.name
                and answer.position > step.position and answer.state = 'refused'
            )
          )
        )
    )
$$;

comment on function outbox.may_be_live is 'True when the event was published, or may have been: a step names what went live, or an intent has no refusal after it.';

revoke all on function outbox.may_be_live from public;
grant execute on function outbox.may_be_live to outbox_operator;
