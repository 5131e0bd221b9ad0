-- The content: a reference schema. An application that has tables of its own calls outbox.emit() from its own trigger.
-- Ids that Meta gives are text, always: they exceed 2^53.

create schema if not exists social;
grant usage on schema social to outbox_emitter, outbox_relay, outbox_operator;

create table social.accounts (
  id uuid primary key default gen_random_uuid(),
  platform text not null,
  remote_id text not null,
  name text not null,
  token_ciphertext bytea not null,
  token_set_at timestamptz not null default clock_timestamp(),
  created_at timestamptz not null default clock_timestamp(),
  constraint an_account_is_on_instagram_or_facebook check (platform in ('instagram', 'facebook')),
  constraint a_remote_id_is_digits check (remote_id ~ '^[0-9]+$'),
  constraint an_account_is_added_once unique (platform, remote_id)
);

comment on table social.accounts is 'The publishing accounts: Instagram professional accounts and Facebook Pages.';
comment on column social.accounts.id is 'Our id.';
comment on column social.accounts.platform is 'instagram or facebook.';
comment on column social.accounts.remote_id is 'The IG user id or the Page id, digits as text.';
comment on column social.accounts.name is 'For people.';
comment on column social.accounts.token_ciphertext is 'The access token, encrypted; the key is in the relay''s settings, never in the database.';
comment on column social.accounts.token_set_at is 'When the token was stored.';
comment on column social.accounts.created_at is 'When the account was added.';

create table social.content_items (
  id uuid primary key default gen_random_uuid(),
  title text not null default '',
  created_at timestamptz not null default clock_timestamp()
);

comment on table social.content_items is 'A piece of content, published through its variants.';
comment on column social.content_items.id is 'Our id.';
comment on column social.content_items.title is 'For people.';
comment on column social.content_items.created_at is 'When it was created.';

create table social.content_variants (
  id uuid primary key default gen_random_uuid(),
  content_item_id uuid not null references social.content_items,
  account_id uuid not null references social.accounts,
  placement text not null default 'story',
  media_type text not null,
  media_url text not null,
  sequence text,
  status text not null default 'draft',
  publish_at timestamptz,
  expires_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  constraint a_variant_is_placed_as_a_story check (placement in ('story')),
  constraint a_variant_is_an_image_or_a_video check (media_type in ('image', 'video')),
  constraint a_media_url_is_http check (media_url ~ '^https?://[[:graph:]]+$'),
  constraint a_variant_is_draft_or_approved check (status in ('draft', 'approved')),
  constraint a_variant_expires_after_it_is_due check (expires_at > publish_at),
  constraint instants_are_between_1970_and_9000 check (
    publish_at between '1970-01-01Z' and '9000-01-01Z' and expires_at between '1970-01-01Z' and '9000-01-01Z'
  )
);
create index content_variants_by_item on social.content_variants (content_item_id);

comment on table social.content_variants is 'One rendering of a content item for one account. Approving it emits variant.created in the same transaction.';
comment on column social.content_variants.id is 'Our id: the variant_id of the event, by which the publisher loads this row.';
comment on column social.content_variants.content_item_id is 'The content item.';
comment on column social.content_variants.account_id is 'Where it is published.';
comment on column social.content_variants.placement is 'story.';
comment on column social.content_variants.media_type is 'image or video.';
comment on column social.content_variants.media_url is 'Where Meta fetches the media: public, direct, US-ASCII.';
comment on column social.content_variants.sequence is 'Variants of the same account and sequence are published strictly in order: the slides of one story.';
comment on column social.content_variants.status is 'draft, or approved: may be published.';
comment on column social.content_variants.publish_at is 'Not before; null means at once.';
comment on column social.content_variants.expires_at is 'Not after; null means never.';
comment on column social.content_variants.created_at is 'When it was created.';

create view social.publish_jobs as
select
  s.id,
  v.id as variant_id,
  v.content_item_id,
  a.platform,
  a.remote_id as account,
  v.placement,
  s.state as status,
  s.reason,
  s.attempts as attempt,
  s.deferrals,
  s.error as last_error,
  s.result,
  coalesce(s.publish_at, s.created_at) as scheduled_at,
  s.due_at,
  s.created_at,
  s.settled_at
from outbox.event_states as s
join outbox.events as e on e.id = s.id
join social.content_variants as v
  on v.id = case when e.payload ->> 'variant_id' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then (e.payload ->> 'variant_id')::uuid end
join social.accounts as a on a.id = v.account_id
where s.type = 'variant.created';

comment on view social.publish_jobs is 'The familiar shape: one row for each event of an approved variant, replays included, with how its publishing stands.';
comment on column social.publish_jobs.id is 'The event.';
comment on column social.publish_jobs.variant_id is 'The variant, resolved when the event was written.';
comment on column social.publish_jobs.content_item_id is 'The content item.';
comment on column social.publish_jobs.platform is 'instagram or facebook.';
comment on column social.publish_jobs.account is 'The IG user id or the Page id.';
comment on column social.publish_jobs.placement is 'story.';
comment on column social.publish_jobs.status is 'new (or in flight), waiting, published, dead, cancelled or expired.';
comment on column social.publish_jobs.reason is 'Why it waits, or why it is dead.';
comment on column social.publish_jobs.attempt is 'Tries that failed.';
comment on column social.publish_jobs.deferrals is 'Waits that were no failure.';
comment on column social.publish_jobs.last_error is 'The last error, in one sentence.';
comment on column social.publish_jobs.result is 'Remote ids and permalink.';
comment on column social.publish_jobs.scheduled_at is 'When it was to be published.';
comment on column social.publish_jobs.due_at is 'When a waiting job is tried again.';
comment on column social.publish_jobs.created_at is 'When it was emitted.';
comment on column social.publish_jobs.settled_at is 'When it ended.';

grant select on social.accounts, social.content_items, social.content_variants, social.publish_jobs to outbox_relay;
grant select (id, platform, remote_id, name, token_set_at, created_at) on social.accounts to outbox_operator;
grant insert (platform, remote_id, name, token_ciphertext), update (name, token_ciphertext, token_set_at) on social.accounts to outbox_operator;
grant select on social.content_items, social.content_variants, social.publish_jobs to outbox_operator;
