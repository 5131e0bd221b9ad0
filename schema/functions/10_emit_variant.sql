-- Emits variant.created when a variant is inserted approved or becomes approved, and when an approved one gets another or a
-- further account: one event an account, so that no way of creating a variant (create flow, planner approval, bulk import) can
-- forget one, and whatever is changed of it no account gets two. The event carries the resolved variant_id and account_id. A
-- trace goes on in it: the W3C traceparent of the setting outbox.traceparent, else that of the HTTP request that PostgREST serves.
--
-- An approval after the event has ended without going live emits it anew, with the times of the variant. An event that may
-- be live is not repeated by an approval: an operator looks first, and replays it.
--
-- Called by: the triggers on social.content_variants and social.variant_accounts, in the application's transaction.
-- Locks:     the variant's row for no key update, where an account is added to it; a draft's is written, unchanged, so that
--            whoever approves it with an older snapshot, which has not got the account, meets a 40001.
-- Raises:    what outbox.emit() raises.
drop function if exists social.emit_to_account(social.content_variants, uuid);

create or replace function social.emit_to_account(variant social.content_variants, account_id uuid, replay_of bigint default null) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  traceparent text := coalesce(
    nullif(current_setting('outbox.traceparent', true), ''),
    substring(current_setting('request.headers', true) from '"traceparent" ?: ?"([0-9a-f-]{55})"')
  );
begin
  perform outbox.emit(
    type => 'variant.created',
    payload => jsonb_build_object(
      'variant_id', variant.id, 'created_at', variant.created_at, 'account_id', emit_to_account.account_id
    ),
    key => (select a.platform || ':' || a.remote_id from social.accounts as a where a.id = emit_to_account.account_id),
    sequence => variant.sequence,
    dedupe_key => coalesce('replay:' || emit_to_account.replay_of, 'variant:' || variant.id || ':' || emit_to_account.account_id),
    publish_at => variant.publish_at,
    expires_at => variant.expires_at,
    headers => case when traceparent is null then '{}' else jsonb_build_object('traceparent', traceparent) end,
    replay_of => emit_to_account.replay_of
  );
end
$$;

comment on function social.emit_to_account is 'Emits variant.created for one account of an approved variant, once, or once more after an event that has ended.';

revoke all on function social.emit_to_account from public;

-- The last event of a variant for an account, where it has ended and nothing of it can be live; null where there is none,
-- where it goes on, and where it was published or may have been.
create or replace function social.event_that_came_to_nothing(variant_id uuid, account_id uuid) returns bigint
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  last bigint;
  replay bigint;
begin
  select e.id into replay
  from outbox.events as e
  where e.dedupe_key = 'variant:' || event_that_came_to_nothing.variant_id || ':' || event_that_came_to_nothing.account_id;
  while replay is not null loop
    last := replay;
    if outbox.may_be_live(last) or not exists (select from outbox.receipts as r where r.event_id = last) then
      return null;
    end if;
    replay := (select e.id from outbox.events as e where e.dedupe_key = 'replay:' || last);
  end loop;
  return last;
end
$$;

comment on function social.event_that_came_to_nothing is 'The last event of a variant for an account, where it has ended and nothing of it can be live.';

revoke all on function social.event_that_came_to_nothing from public;

create or replace function social.emit_variant() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform social.emit_to_account(
    new, new.account_id, case when tg_op = 'UPDATE' then social.event_that_came_to_nothing(new.id, new.account_id) end
  );
  perform social.emit_to_account(new, further.account_id, social.event_that_came_to_nothing(new.id, further.account_id))
  from social.variant_accounts as further
  where further.variant_id = new.id
  order by further.created_at, further.account_id;
  return null;
end
$$;

comment on function social.emit_variant() is 'Emits variant.created for each account of an approved variant.';

create or replace trigger emit_inserted after insert on social.content_variants
for each row when (new.status = 'approved') execute function social.emit_variant();

-- Of no column: what a trigger of the application sets before is in no list of the statement.
create or replace trigger emit_approved after update on social.content_variants
for each row when (
  new.status = 'approved' and (old.status is distinct from 'approved' or old.account_id is distinct from new.account_id)
)
execute function social.emit_variant();

revoke all on function social.emit_variant() from public;

create or replace function social.emit_added() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  variant social.content_variants;
begin
  select v.* into variant from social.content_variants as v where v.id = new.variant_id for no key update;
  if variant.status = 'approved' then
    perform social.emit_to_account(
      variant, new.account_id, social.event_that_came_to_nothing(variant.id, new.account_id)
    );
  else
    -- Nobody has seen what this transaction itself has created.
    update social.content_variants as v set status = v.status
    where v.id = new.variant_id and v.xmin <> pg_current_xact_id()::xid;
  end if;
  return null;
end
$$;

comment on function social.emit_added() is 'Emits variant.created for an account that an approved variant gets, in addition or for another one.';

create or replace trigger emit_added after insert on social.variant_accounts
for each row execute function social.emit_added();

create or replace trigger emit_replaced after update on social.variant_accounts
for each row when ((new.variant_id, new.account_id) is distinct from (old.variant_id, old.account_id))
execute function social.emit_added();

revoke all on function social.emit_added() from public;
