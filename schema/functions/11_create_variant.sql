-- Creates a content variant, approved unless told otherwise, and returns its id. The event is written by the
-- trigger in the same transaction. The one call that an application needs, also as a PostgREST or Supabase RPC.
--
-- Called by: applications.
-- Locks:     none beyond the inserts.
-- Raises:    OB005 no such account; 23514 where a constraint says no; what outbox.emit() raises.
create or replace function social.create_variant(
  account text,
  media_url text,
  media_type text default 'image',
  placement text default 'story',
  content_item_id uuid default null,
  title text default '',
  sequence text default null,
  publish_at timestamptz default null,
  expires_at timestamptz default null,
  approved boolean default true
) returns uuid
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  found_account uuid;
  item uuid := create_variant.content_item_id;
  variant uuid;
begin
  select a.id into found_account
  from social.accounts as a
  where a.platform || ':' || a.remote_id = create_variant.account or a.id::text = create_variant.account;
  if not found then
    raise exception 'account % does not exist: expected its id, or platform:remote_id as in instagram:17841400000000000', create_variant.account
      using errcode = 'OB005';
  end if;
  if item is null then
    insert into social.content_items (title) values (create_variant.title) returning id into item;
  end if;
  insert into social.content_variants (
    content_item_id, account_id, placement, media_type, media_url, sequence, status, publish_at, expires_at
  )
  values (
    item, found_account, create_variant.placement, create_variant.media_type, create_variant.media_url,
    create_variant.sequence, case when create_variant.approved then 'approved' else 'draft' end,
    create_variant.publish_at, create_variant.expires_at
  )
  returning id into variant;
  return variant;
end
$$;

comment on function social.create_variant is 'Creates a content variant for an account (its id, or platform:remote_id) and returns its id; approved ones are published.';

revoke all on function social.create_variant from public;
grant execute on function social.create_variant to outbox_emitter;
