-- The variants that the newest variant.created events name, and their accounts, as the owner sees them: what row
-- security hides from another role is missing in that role's own look at the tables.
--
-- Called by: `outbox doctor`.
-- Locks:     none.
-- Raises:    nothing.
create or replace function outbox.recent_variants(count_max integer, out variant_ids uuid[], out account_ids uuid[])
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(distinct v.id), '{}'), coalesce(array_agg(distinct v.account_id), '{}')
  from (
    select e.payload ->> 'variant_id' as variant_id
    from outbox.events as e
    where e.type = 'variant.created'
    order by e.id desc
    limit recent_variants.count_max
  ) as named
  join social.content_variants as v
    on v.id = case when named.variant_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then named.variant_id::uuid end
$$;

comment on function outbox.recent_variants is 'The variants of the newest events and their accounts, as the owner sees them.';

revoke all on function outbox.recent_variants from public;
grant execute on function outbox.recent_variants to outbox_relay, outbox_operator;
