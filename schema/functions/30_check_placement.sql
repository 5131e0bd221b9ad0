-- Refuses a placement that an account's platform does not have, and an account that a variant names twice: both would
-- only be found out when it is published.
--
-- Called by: the triggers on social.content_variants and social.variant_accounts.
-- Locks:     the variant's row for share, where an account is added to it.
-- Raises:    23514 (check_violation) with the constraint names a_placement_is_one_of_its_platform and
--            a_variant_names_an_account_once.
create or replace function social.check_placement(placement text, account_id uuid) returns void
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  platform text := (select a.platform from social.accounts as a where a.id = check_placement.account_id);
  placements text[] := case platform
    when 'instagram' then array['story', 'feed', 'carousel', 'reel']
    when 'facebook' then array['story', 'post', 'photo', 'photos', 'video', 'reel']
  end;
begin
  if not check_placement.placement = any (placements) then
    raise exception 'expected a placement of % (%), found %', platform, array_to_string(placements, ', '), check_placement.placement
      using errcode = 'check_violation', constraint = 'a_placement_is_one_of_its_platform';
  end if;
end
$$;

comment on function social.check_placement is 'Refuses a placement that an account''s platform does not have.';

revoke all on function social.check_placement from public;

create or replace function social.check_variant() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform social.check_placement(new.placement, new.account_id);
  perform social.check_placement(new.placement, further.account_id)
  from social.variant_accounts as further
  where further.variant_id = new.id;
  if exists (select from social.variant_accounts as f where f.variant_id = new.id and f.account_id = new.account_id) then
    raise exception 'expected each account of variant % once, found % among its further accounts too', new.id, new.account_id
      using errcode = 'check_violation', constraint = 'a_variant_names_an_account_once';
  end if;
  return null;
end
$$;

comment on function social.check_variant() is 'Refuses a variant whose accounts do not have its placement, or that names one twice.';

create or replace trigger check_placement after insert or update of placement, account_id on social.content_variants
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
  perform social.check_placement(variant.placement, new.account_id);
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
