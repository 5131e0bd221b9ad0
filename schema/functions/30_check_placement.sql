-- Holds a variant to social.placements: to the media that its placement shows on the platform of each account, and to what
-- it takes beside on at least one of them; and refuses an account that it names twice. All of it would otherwise only be
-- found out when it is published. The shape of single values is left to the constraints of the table.
--
-- Called by: the triggers on social.content_variants and social.variant_accounts.
-- Locks:     the variant's row for share, where an account is added to it.
-- Raises:    23514 (check_violation) with the names of the constraints that stand beside each rule.
create or replace function social.check_placement(variant social.content_variants, account_id uuid) returns void
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  wanted text := (select a.platform from social.accounts as a where a.id = check_placement.account_id);
  rule social.placements := (select p from social.placements as p where p.platform = wanted and p.placement = variant.placement);
  shown text[] := array_remove(array[variant.media_type], null);
  uploaded text[] := case when variant.upload then array[coalesce(variant.media_type, 'no medium')] else '{}' end;
  problem text;
  expected text;
begin
  if wanted is null then
    return;  -- the foreign key refuses it
  end if;
  if variant.media is not null then
    shown := array(select m ->> 'kind' from jsonb_array_elements(variant.media) as m);
    uploaded := uploaded || array(select m ->> 'kind' from jsonb_array_elements(variant.media) as m where m -> 'upload' = 'true');
  end if;
  if rule is null then
    problem := 'a_placement_is_one_of_its_platform';
    expected := 'one of ' || (select string_agg(p.placement, ', ' order by p.placement) from social.placements as p where p.platform = wanted);
  elsif (variant.media is not null) <> (rule.media_max > 1) or cardinality(shown) not between rule.media_min and rule.media_max then
    problem := 'a_placement_shows_as_many_media_as_it_can';
    expected := case rule.media_max
      when 0 then 'no media'
      when 1 then 'one medium in media_url'
      else format('%s to %s media in media', rule.media_min, rule.media_max)
    end;
  elsif not shown <@ rule.kinds then
    problem := 'a_placement_shows_media_of_its_kinds';
    expected := array_to_string(rule.kinds, ' or ');
  elsif not uploaded <@ rule.uploads then
    problem := 'a_medium_is_uploaded_where_that_can_be';
    expected := coalesce(nullif(array_to_string(rule.uploads, ' or '), ''), 'nothing') || ' to be uploaded';
  elsif rule.media_max = 0 and coalesce(nullif(variant.caption, ''), variant.link) is null then
    problem := 'a_post_has_a_text_or_a_link';
    expected := 'a text or a link';
  else
    return;
  end if;
  raise exception 'expected % for a % of %: %', expected, variant.placement, wanted, replace(problem, '_', ' ')
    using errcode = 'check_violation', constraint = problem;
end
$$;

comment on function social.check_placement is 'Refuses a variant whose media an account''s platform does not show in this placement.';

revoke all on function social.check_placement from public;

create or replace function social.check_variant() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  given text[] := array_remove(array[
    case when new.caption is not null then 'caption' end,
    case when new.link is not null then 'link' end,
    case when new.alt_text is not null then 'alt_text' end,
    case when new.user_tags is not null then 'user_tags' end,
    case when new.collaborators is not null then 'collaborators' end,
    case when new.location_id is not null then 'location_id' end,
    case when new.cover_url is not null then 'cover_url' end,
    case when new.thumb_offset_ms is not null then 'thumb_offset_ms' end,
    case when new.share_to_feed is not null then 'share_to_feed' end,
    case when new.video_title is not null then 'video_title' end
  ], null);
  taken text[];
begin
  perform social.check_placement(new, new.account_id);
  perform social.check_placement(new, further.account_id)
  from social.variant_accounts as further
  where further.variant_id = new.id;
  if cardinality(given) > 0 then
    taken := array(select unnest(p.takes) from social.placements as p where p.placement = new.placement);
    if not given <@ taken then
      raise exception 'expected a % to have nothing beside its media but what it takes (%), found %', new.placement,
        coalesce(nullif(array_to_string(taken, ', '), ''), 'nothing'),
        array_to_string(array(select g from unnest(given) as g where not g = any (taken)), ', ')
        using errcode = 'check_violation', constraint = 'a_variant_has_what_its_placement_takes';
    end if;
  end if;
  if exists (select from social.variant_accounts as f where f.variant_id = new.id and f.account_id = new.account_id) then
    raise exception 'expected each account of variant % once, found % among its further accounts too', new.id, new.account_id
      using errcode = 'check_violation', constraint = 'a_variant_names_an_account_once';
  end if;
  return null;
end
$$;

comment on function social.check_variant() is 'Refuses a variant that social.placements does not allow, or that names an account twice.';

create or replace trigger check_variant after insert or update on social.content_variants
for each row execute function social.check_variant();

revoke all on function social.check_variant() from public;

create or replace function social.check_added() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  variant social.content_variants;
begin
  select v.* into variant from social.content_variants as v where v.id = new.variant_id for share;
  perform social.check_placement(variant, new.account_id);
  if variant.account_id = new.account_id then
    raise exception 'expected a further account for variant %, found % that it is for already', new.variant_id, new.account_id
      using errcode = 'check_violation', constraint = 'a_variant_names_an_account_once';
  end if;
  return null;
end
$$;

comment on function social.check_added() is 'Refuses an account that does not have the variant''s placement, or that it is for already.';

create or replace trigger check_added after insert or update on social.variant_accounts
for each row execute function social.check_added();

revoke all on function social.check_added() from public;
