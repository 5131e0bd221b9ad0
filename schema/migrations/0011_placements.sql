-- All placements of a publishing team, and variants that go to several accounts. Additive: a relay of the release
-- before goes on publishing stories; what it does not know it declares dead, and replaying that publishes it.

alter table social.content_variants
  alter column media_type drop not null,
  alter column media_url drop not null,
  add column media jsonb,
  add column upload boolean not null default false,
  add column caption text,
  add column link text,
  add column alt_text text,
  add column user_tags jsonb,
  add column collaborators text[],
  add column location_id text,
  add column cover_url text,
  add column thumb_offset_ms integer,
  add column share_to_feed boolean,
  add column video_title text,
  drop constraint a_variant_is_placed_as_a_story,
  add constraint a_medium_has_a_type_and_a_url check ((media_url is null) = (media_type is null)),
  add constraint a_listed_medium_has_a_kind_and_an_http_url check (
    case
      when jsonb_typeof(media) = 'array' then jsonb_array_length(media) = jsonb_array_length(jsonb_path_query_array(
        media, '$[*] ? ((@.kind == "image" || @.kind == "video") && @.url like_regex "^https?://[!-~]+$")'
      ))
      else media is null
    end
  ),
  add constraint a_link_is_http check (link ~ '^https?://[[:graph:]]+$'),
  add constraint an_alt_text_has_at_most_1000_characters check (length(alt_text) <= 1000),
  add constraint user_tags_name_users check (
    case
      when jsonb_typeof(user_tags) = 'array' then
        jsonb_array_length(user_tags)
        = jsonb_array_length(jsonb_path_query_array(user_tags, '$[*] ? (@.username like_regex "^[^@ ]+$")'))
      else user_tags is null
    end
  ),
  add constraint at_most_3_collaborate check (cardinality(collaborators) between 1 and 3),
  add constraint a_location_is_an_id check (location_id ~ '^[0-9]+$'),
  add constraint a_cover_is_an_http_url_or_an_offset check (
    cover_url ~ '^https?://[[:graph:]]+$' is not false and thumb_offset_ms >= 0 is not false
  );

create table social.placements (
  platform text not null,
  placement text not null,
  kinds text[] not null,
  media_min smallint not null,
  media_max smallint not null,
  uploads text[] not null,
  takes text[] not null,
  primary key (platform, placement)
);

insert into social.placements (platform, placement, kinds, media_min, media_max, uploads, takes) values
  ('instagram', 'story', '{image,video}', 1, 1, '{video}', '{user_tags}'),
  ('instagram', 'feed', '{image}', 1, 1, '{}', '{caption,alt_text,user_tags,collaborators,location_id}'),
  ('instagram', 'carousel', '{image,video}', 2, 10, '{video}', '{caption,collaborators,location_id}'),
  ('instagram', 'reel', '{video}', 1, 1, '{video}', '{caption,user_tags,collaborators,location_id,cover_url,thumb_offset_ms,share_to_feed}'),
  ('facebook', 'story', '{image,video}', 1, 1, '{image,video}', '{}'),
  ('facebook', 'post', '{}', 0, 0, '{}', '{caption,link}'),
  ('facebook', 'photo', '{image}', 1, 1, '{image}', '{caption,alt_text}'),
  ('facebook', 'photos', '{image}', 2, 10, '{image}', '{caption}'),
  ('facebook', 'video', '{video}', 1, 1, '{video}', '{caption,video_title}'),
  ('facebook', 'reel', '{video}', 1, 1, '{video}', '{caption,video_title}');

comment on table social.placements is 'What each placement shows and takes: the one place for these rules, which social.check_variant() holds every variant to.';
comment on column social.placements.platform is 'instagram or facebook.';
comment on column social.placements.placement is 'As in social.content_variants.';
comment on column social.placements.kinds is 'Which media it shows: image, video, either, none.';
comment on column social.placements.media_min is 'How many, at least.';
comment on column social.placements.media_max is 'How many, at most; where that is more than one, content_variants.media lists them.';
comment on column social.placements.uploads is 'Of which kinds the relay can send the bytes, instead of Meta fetching the URL.';
comment on column social.placements.takes is 'Which columns of social.content_variants it has a use for, beside its media. What another platform''s placement of this name takes is left unused here.';

grant select on social.placements to outbox_relay, outbox_operator;

comment on table social.content_variants is 'One rendering of a content item for one account, or several. Approving it emits variant.created for each, in the same transaction.';
comment on column social.content_variants.account_id is 'Where it is published; social.variant_accounts has further accounts.';
comment on column social.content_variants.placement is 'One of social.placements for the platform of each account; a post of Facebook is a text or a link.';
comment on column social.content_variants.media_type is 'image or video; null where media lists them, and for a post.';
comment on column social.content_variants.media_url is 'Where the medium is fetched: public, direct, US-ASCII; null where media lists them, and for a post.';
comment on column social.content_variants.media is 'The 2 to 10 media of a carousel or of photos, in order: [{"kind": "image"|"video", "url": ..., "upload"?: true, "alt_text"?: ..., "user_tags"?: [...]}].';
comment on column social.content_variants.upload is 'The relay fetches the medium and sends its bytes, instead of Meta fetching the URL; social.placements says where that can be.';
comment on column social.content_variants.caption is 'The text: caption, message or description, as the placement calls it.';
comment on column social.content_variants.link is 'The link of a post.';
comment on column social.content_variants.alt_text is 'What the image shows, for people who do not see it: at most 1,000 characters.';
comment on column social.content_variants.user_tags is 'Instagram: [{"username": ..., "x"?: 0.5, "y"?: 0.8}], from the top left corner; a feed image needs x and y.';
comment on column social.content_variants.collaborators is 'Instagram: at most 3 user names that are invited as collaborators.';
comment on column social.content_variants.location_id is 'Instagram: the id of a Page that has a location.';
comment on column social.content_variants.cover_url is 'Instagram reel: the cover, a JPEG; it wins over thumb_offset_ms.';
comment on column social.content_variants.thumb_offset_ms is 'Instagram reel: the instant of the video that is its cover.';
comment on column social.content_variants.share_to_feed is 'Instagram reel: shown in the feed too.';
comment on column social.content_variants.video_title is 'Facebook: the title of a video or reel.';

create table social.variant_accounts (
  variant_id uuid not null references social.content_variants on delete cascade,
  account_id uuid not null references social.accounts,
  created_at timestamptz not null default clock_timestamp(),
  primary key (variant_id, account_id)
);

comment on table social.variant_accounts is 'Further accounts that a variant is published on. Each has an event of its own, so that one account''s trouble is not another''s.';
comment on column social.variant_accounts.variant_id is 'The variant.';
comment on column social.variant_accounts.account_id is 'An account beside content_variants.account_id.';
comment on column social.variant_accounts.created_at is 'When it was added.';

grant select on social.variant_accounts to outbox_relay, outbox_operator;

-- The new one has more parameters, and two of a name would make calls ambiguous.
drop function if exists social.create_variant(text, text, text, text, uuid, text, text, timestamptz, timestamptz, boolean);

create or replace view social.publish_jobs as
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
join social.accounts as a
  on a.id = case when e.payload ->> 'account_id' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then (e.payload ->> 'account_id')::uuid else v.account_id end
where s.type = 'variant.created';

comment on view social.publish_jobs is 'The familiar shape: one row for each event of an approved variant and account, replays included, with how its publishing stands.';
comment on column social.publish_jobs.placement is 'As in social.content_variants.';
