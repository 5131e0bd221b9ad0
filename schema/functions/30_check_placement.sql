-- Holds a variant to social.placements: to the media that its placement shows on the platform of each account, and to what
-- it takes beside on at least one of them; and refuses an account that it names twice. All of it would otherwise only be
-- found out when it is published. The shape of single values is left to the constraints of the table.
--
-- Each insert of a variant pays for this. Starting a statement costs by its expressions: so the usual variant is let through
-- by a short one, which knows what follows from the rules below and refuses nothing.
--
-- Called by: the triggers on social.content_variants and social.variant_accounts.
-- Locks:     the variant's row for no key update, where an account is added to it: social.emit_added() may write it.
-- Raises:    23514 (check_violation) with the names of the constraints that stand beside each rule.
drop function if exists social.check_placement(social.content_variants, uuid);

-- In SQL, and without settings of its own, so that it becomes a part of the statement that calls it.
create or replace function social.placement_problem(variant social.content_variants, rule social.placements) returns text
language sql
stable
as $$
select case
  when rule.platform is null then 'a_placement_is_one_of_its_platform'
  when (variant.media is not null) <> (rule.media_max > 1) or num_nonnulls(variant.media, variant.media_type) > 1
    or coalesce(jsonb_array_length(variant.media), num_nonnulls(variant.media_type)) not between rule.media_min and rule.media_max
    then 'a_placement_shows_as_many_media_as_it_can'
  when variant.media_type is not null and variant.media_type <> all (rule.kinds)
    or not jsonb_path_query_array(variant.media, '$[*].kind') <@ to_jsonb(rule.kinds)
    then 'a_placement_shows_media_of_its_kinds'
  when variant.upload and coalesce(variant.media_type, 'no medium') <> all (rule.uploads)
    or not jsonb_path_query_array(variant.media, '$[*] ? (@.upload == true).kind') <@ to_jsonb(rule.uploads)
    then 'a_medium_is_uploaded_where_that_can_be'
  when rule.media_max = 0 and coalesce(nullif(variant.caption, ''), variant.link) is null then 'a_post_has_a_text_or_a_link'
end
$$;

comment on function social.placement_problem is 'Names what an account''s platform does not show of a variant in its placement; null where it shows all of it.';

revoke all on function social.placement_problem from public;

create or replace function social.refuse_placement(variant social.content_variants, wanted text, problem text) returns void
language plpgsql
stable
as $$
declare
  rule social.placements := (select p from social.placements as p where p.platform = wanted and p.placement = variant.placement);
  expected text := case problem
    when 'a_placement_is_one_of_its_platform' then
      'one of ' || (select string_agg(p.placement, ', ' order by p.placement) from social.placements as p where p.platform = wanted)
    when 'a_placement_shows_as_many_media_as_it_can' then
      case rule.media_max
        when 0 then 'no media'
        when 1 then 'one medium in media_url'
        else format('%s to %s media in media', rule.media_min, rule.media_max)
      end
    when 'a_placement_shows_media_of_its_kinds' then array_to_string(rule.kinds, ' or ')
    when 'a_medium_is_uploaded_where_that_can_be' then
      coalesce(nullif(array_to_string(rule.uploads, ' or '), ''), 'nothing') || ' to be uploaded'
    when 'a_post_has_a_text_or_a_link' then 'a text or a link'
  end;
begin
  raise exception 'expected % for a % of %: %', expected, variant.placement, wanted, replace(problem, '_', ' ')
    using errcode = 'check_violation', constraint = problem;
end
$$;

comment on function social.refuse_placement is 'Raises what social.placement_problem names, in a sentence.';

revoke all on function social.refuse_placement from public;

create or replace function social.check_variant() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  own record;
  given text[];
  taken text[];
begin
  -- Most variants have one medium, fetched by its URL, and a caption at most: that these are right a plain look says.
  if tg_op = 'INSERT' and not new.upload and num_nonnulls(
    new.media, new.link, new.alt_text, new.user_tags, new.collaborators, new.location_id, new.cover_url,
    new.thumb_offset_ms, new.share_to_feed, new.video_title
  ) = 0 then
    perform from social.accounts as a
    join social.placements as p on p.platform = a.platform and p.placement = new.placement
    where a.id = new.account_id and p.media_max = 1 and new.media_type = any (p.kinds)
      and (new.caption is null or 'caption' = any (p.takes));
    if found then
      return null;
    end if;
  end if;
  select a.platform, p.takes, social.placement_problem(new, p) as problem into own
  from social.accounts as a
  left join social.placements as p on p.platform = a.platform and p.placement = new.placement
  where a.id = new.account_id;
  if own.problem is not null then
    perform social.refuse_placement(new, own.platform, own.problem);
  end if;
  if num_nonnulls(new.caption, new.link, new.alt_text, new.user_tags, new.collaborators, new.location_id, new.cover_url,
                  new.thumb_offset_ms, new.share_to_feed, new.video_title) > 0 then
    given := array_remove(array[
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
    if not given <@ own.takes then
      taken := array(select unnest(p.takes) from social.placements as p where p.placement = new.placement);
      if not given <@ taken then
        raise exception 'expected a % to have nothing beside its media but what it takes (%), found %', new.placement,
          coalesce(nullif(array_to_string(taken, ', '), ''), 'nothing'),
          array_to_string(array(select g from unnest(given) as g where not g = any (taken)), ', ')
          using errcode = 'check_violation', constraint = 'a_variant_has_what_its_placement_takes';
      end if;
    end if;
  end if;
  if tg_op = 'INSERT' then
    return null;  -- further accounts come after it, each held to the rules by itself
  end if;
  perform social.refuse_placement(new, a.platform, social.placement_problem(new, p))
  from social.variant_accounts as further
  join social.accounts as a on a.id = further.account_id
  left join social.placements as p on p.platform = a.platform and p.placement = new.placement
  where further.variant_id = new.id and social.placement_problem(new, p) is not null;
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
  select v.* into variant from social.content_variants as v where v.id = new.variant_id for no key update;
  perform social.refuse_placement(variant, a.platform, social.placement_problem(variant, p))
  from social.accounts as a
  left join social.placements as p on p.platform = a.platform and p.placement = variant.placement
  where a.id = new.account_id and social.placement_problem(variant, p) is not null;
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
