-- Emits variant.created when a variant is inserted approved or becomes approved, and when an approved one gets a further
-- account: one event an account, so that no way of creating a variant (create flow, planner approval, bulk import) can
-- forget one. The event carries the resolved variant_id, and the account_id of a further account. A trace goes on in it: the
-- W3C traceparent of the setting outbox.traceparent, else that of the HTTP request that PostgREST serves.
--
-- Called by: the triggers on social.content_variants and social.variant_accounts, in the application's transaction.
-- Locks:     the variant's row for share, where an account is added to it.
-- Raises:    what outbox.emit() raises.
create or replace function social.emit_to_account(variant social.content_variants, account_id uuid) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  is_further boolean := emit_to_account.account_id <> variant.account_id;
  traceparent text := coalesce(
    nullif(current_setting('outbox.traceparent', true), ''),
    substring(current_setting('request.headers', true) from '"traceparent" ?: ?"([0-9a-f-]{55})"')
  );
begin
  perform outbox.emit(
    type => 'variant.created',
    payload => jsonb_build_object('variant_id', variant.id, 'created_at', variant.created_at)
      || case when is_further then jsonb_build_object('account_id', emit_to_account.account_id) else '{}' end,
    key => (select a.platform || ':' || a.remote_id from social.accounts as a where a.id = emit_to_account.account_id),
    sequence => variant.sequence,
    dedupe_key => variant.placement || ':' || variant.id || case when is_further then ':' || emit_to_account.account_id else '' end,
    publish_at => variant.publish_at,
    expires_at => variant.expires_at,
    headers => case when traceparent is null then '{}' else jsonb_build_object('traceparent', traceparent) end
  );
end
$$;

comment on function social.emit_to_account is 'Emits variant.created for one account of an approved variant, once.';

revoke all on function social.emit_to_account from public;

create or replace function social.emit_variant() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform social.emit_to_account(new, new.account_id);
  perform social.emit_to_account(new, further.account_id)
  from social.variant_accounts as further
  where further.variant_id = new.id
  order by further.created_at, further.account_id;
  return null;
end
$$;

comment on function social.emit_variant() is 'Emits variant.created for each account of an approved variant.';

create or replace trigger emit_inserted after insert on social.content_variants
for each row when (new.status = 'approved') execute function social.emit_variant();

create or replace trigger emit_approved after update of status on social.content_variants
for each row when (new.status = 'approved' and old.status is distinct from 'approved') execute function social.emit_variant();

revoke all on function social.emit_variant() from public;

create or replace function social.emit_added() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  variant social.content_variants;
begin
  select v.* into variant from social.content_variants as v where v.id = new.variant_id for share;
  if variant.status = 'approved' then
    perform social.emit_to_account(variant, new.account_id);
  end if;
  return null;
end
$$;

comment on function social.emit_added() is 'Emits variant.created for an account that is added to an approved variant.';

create or replace trigger emit_added after insert on social.variant_accounts
for each row execute function social.emit_added();

revoke all on function social.emit_added() from public;
