-- Creates a content variant, approved unless told otherwise, and returns its id. The events, one an account, are written
-- by triggers in the same transaction. The one call that an application needs, also as a PostgREST or Supabase RPC.
--
-- account, accounts:  where it is published: an id of social.accounts, or platform:remote_id; one of the two, or both.
-- media_url:          the one medium, whose media_type follows from the placement where it can; or
-- media:              the 2 to 10 media of a carousel or of photos, as social.content_variants.media describes them.
-- title:              the content item's, for people; video_title is what a Page shows.
--
-- Called by: applications.
-- Locks:     the content item that is given, then the accounts, for key share, as foreign keys do: neither can be deleted
--            until the transaction ends. What it creates, only this transaction sees.
-- Raises:    OB005 no such account, or none given; 23514 where a constraint says no; what outbox.emit() raises.
create or replace function social.create_variant(
  account text default null,
  media_url text default null,
  media_type text default null,
  placement text default 'story',
  content_item_id uuid default null,
  title text default '',
  sequence text default null,
  publish_at timestamptz default null,
  expires_at timestamptz default null,
  approved boolean default true,
  accounts text[] default '{}',
  caption text default null,
  link text default null,
  media jsonb default null,
  upload boolean default false,
  alt_text text default null,
  user_tags jsonb default null,
  collaborators text[] default null,
  location_id text default null,
  cover_url text default null,
  thumb_offset_ms integer default null,
  share_to_feed boolean default null,
  video_title text default null
) returns uuid
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  names text[] := array_remove(create_variant.account || create_variant.accounts, null);
  wanted text;
  found_account uuid;
  found_accounts uuid[] := '{}';
  item uuid := create_variant.content_item_id;
  variant uuid;
begin
  if cardinality(names) = 0 then
    raise exception 'expected an account, as its id or as platform:remote_id, found none' using errcode = 'OB005';
  end if;
  foreach wanted in array names loop
    -- By a unique index either way.
    if wanted ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
      select a.id into found_account from social.accounts as a where a.id = wanted::uuid;
    else
      select a.id into found_account
      from social.accounts as a
      where a.platform = split_part(wanted, ':', 1) and a.remote_id = substr(wanted, strpos(wanted, ':') + 1);
    end if;
    if not found then
      raise exception 'account % does not exist: expected its id, or platform:remote_id as in instagram:17841400000000000', wanted
        using errcode = 'OB005';
    end if;
    if not found_account = any (found_accounts) then
      found_accounts := found_accounts || found_account;
    end if;
  end loop;
  if item is null then
    insert into social.content_items (title) values (create_variant.title) returning id into item;
  end if;
  insert into social.content_variants (
    content_item_id, account_id, placement, media_type, media_url, sequence, status, publish_at, expires_at,
    caption, link, media, upload, alt_text, user_tags, collaborators, location_id, cover_url, thumb_offset_ms,
    share_to_feed, video_title
  )
  values (
    item, found_accounts[1], create_variant.placement,
    coalesce(create_variant.media_type, case
      when create_variant.media_url is not null then case when create_variant.placement in ('reel', 'video') then 'video' else 'image' end
    end),
    create_variant.media_url, create_variant.sequence, case when create_variant.approved then 'approved' else 'draft' end,
    create_variant.publish_at, create_variant.expires_at,
    create_variant.caption, create_variant.link, create_variant.media, create_variant.upload, create_variant.alt_text,
    create_variant.user_tags, create_variant.collaborators, create_variant.location_id, create_variant.cover_url,
    create_variant.thumb_offset_ms, create_variant.share_to_feed, create_variant.video_title
  )
  returning id into variant;
  insert into social.variant_accounts (variant_id, account_id) select variant, unnest(found_accounts[2:]);
  return variant;
end
$$;

comment on function social.create_variant is 'Creates a content variant for one account (its id, or platform:remote_id) or several, and returns its id; approved ones are published.';

revoke all on function social.create_variant from public;
grant execute on function social.create_variant to outbox_emitter;
