-- Decides what became of an event's irreversible call of which nobody knows: it happened, or it certainly did not. The
-- relay turns the decision into a step and goes on: to the receipt, or to the call, once more.
--
-- Called by: operators, through `outbox resolve` or psql, after a look at the account.
-- Locks:     the event's row in outbox.waiting; a concurrent decision with the same remote_id waits for the first one's end.
-- Raises:    OB001 no such event; OB004 it has ended already; OB010 nothing of it is in doubt, or it does not wait for that;
--            OB011 the relay still looks, and force was not given (only to say that it did not happen); OB015 another
--            event has published this id; OB016 somebody has decided otherwise; 23514 an id of what did not happen.
--
-- What waits for a person without an open intent (recovery found that the log may have lost it) is decided as of its last
-- step, and for the step publish.
--
-- Every intent of the event whose statement begins after "it happened" commits is refused. "It did not happen" is believed only where
-- the relay has given up looking: what Meta still works on may yet go live.
create or replace function outbox.resolve(
  event_id bigint,
  published boolean,
  remote_id text default null,
  reason text default null,
  force boolean default false
) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  ended text;
  waits outbox.waiting;
  intent outbox.steps;
  is_known_live boolean;
  decided outbox.resolutions;
  other bigint;
begin
  if not exists (select from outbox.events as e where e.id = resolve.event_id) then
    raise exception 'event % does not exist', resolve.event_id using errcode = 'OB001';
  end if;
  select * into waits from outbox.waiting as w where w.event_id = resolve.event_id for update;
  select r.outcome into ended from outbox.receipts as r where r.event_id = resolve.event_id;
  if found then
    raise exception 'event % has ended already: %', resolve.event_id, ended using errcode = 'OB004';
  end if;
  select s.* into intent
  from outbox.steps as s
  where s.event_id = resolve.event_id and s.state = 'intent'
    and not exists (
      select from outbox.steps as answer
      where answer.event_id = s.event_id and answer.name = s.name and answer.position > s.position
    )
  order by s.position desc
  limit 1;
  if intent.event_id is null then
    select coalesce(max(s.position), 0), 'publish', coalesce(bool_or(s.state = 'done' and s.detail ? 'remote_id'), false)
    into intent.position, intent.name, is_known_live
    from outbox.steps as s
    where s.event_id = resolve.event_id;
  end if;
  select * into decided from outbox.resolutions as d where d.event_id = resolve.event_id and d.position = intent.position;
  if (waits.reason = 'unknown') is not true or is_known_live
    or (intent.event_id is null and decided.event_id is null and waits.due_at < 'infinity')
  then
    raise exception 'event % has nothing to resolve: expected one that may be live, found %',
      resolve.event_id,
      case
        when waits.event_id is null then 'one that is new or in flight'
        when waits.reason <> 'unknown' then 'one that waits as ' || waits.reason
        when is_known_live then 'one that is live, as its steps say'
        else 'one that the relay is about to look at'
      end
      using errcode = 'OB010';
  end if;
  if decided.event_id is not null then
    if (decided.published, decided.remote_id) is distinct from (resolve.published, resolve.remote_id) then
      raise exception 'event % was resolved by % as %: the relay is about to act on that', resolve.event_id, decided.requested_by,
        case when decided.published then 'published' else 'not published' end
        using errcode = 'OB016';
    end if;
  else
    if not resolve.published and waits.due_at < 'infinity' and not resolve.force then
      raise exception 'event % is still looked for, next at %: what the API works on may yet go live; wait, or use force',
        resolve.event_id, to_char(waits.due_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        using errcode = 'OB011';
    end if;
    select o.event_id into other
    from (
      select s.event_id from outbox.steps as s
      where s.state = 'done' and s.detail ? 'remote_id' and s.detail ->> 'remote_id' = resolve.remote_id
      union all select f.event_id from social.found_posts as f where f.remote_id = resolve.remote_id
    ) as o
    where o.event_id <> resolve.event_id
    limit 1;
    if not found then
      insert into outbox.resolutions as d (event_id, position, name, published, remote_id, reason)
      values (resolve.event_id, intent.position, intent.name, resolve.published, resolve.remote_id, resolve.reason)
      on conflict (remote_id) where remote_id is not null do nothing;
      if not found then
        select d.event_id into other from outbox.resolutions as d where d.remote_id = resolve.remote_id;
      end if;
    end if;
    if other is not null then
      raise exception 'event % has published % already: look at the account again', other, resolve.remote_id using errcode = 'OB015';
    end if;
    perform outbox.record(
      'resolve', 1, resolve.reason, event_id => resolve.event_id,
      detail => jsonb_build_object(
        'position', intent.position, 'published', resolve.published, 'remote_id', resolve.remote_id, 'force', resolve.force
      )
    );
  end if;
  update outbox.waiting as w set due_at = clock_timestamp() where w.event_id = resolve.event_id;
  perform outbox.notify('waiting');
end
$$;

comment on function outbox.resolve is 'Decides what became of an irreversible call of which nobody knows: it happened (true), or it certainly did not.';

revoke all on function outbox.resolve from public;
grant execute on function outbox.resolve to outbox_operator;
