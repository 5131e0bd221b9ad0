-- Emits variant.created when a variant is inserted approved or becomes approved, so that no way of creating one
-- (create flow, planner approval, bulk import) can forget it. The event carries the resolved variant_id.
--
-- Called by: the triggers on social.content_variants, in the application's transaction.
-- Locks:     none beyond outbox.emit().
-- Raises:    what outbox.emit() raises.
create or replace function social.emit_variant() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform outbox.emit(
    type => 'variant.created',
    payload => jsonb_build_object('variant_id', new.id, 'created_at', new.created_at),
    key => (select a.platform || ':' || a.remote_id from social.accounts as a where a.id = new.account_id),
    sequence => new.sequence,
    dedupe_key => new.placement || ':' || new.id,
    publish_at => new.publish_at,
    expires_at => new.expires_at
  );
  return null;
end
$$;

comment on function social.emit_variant() is 'Emits variant.created for an approved variant.';

create or replace trigger emit_inserted after insert on social.content_variants
for each row when (new.status = 'approved') execute function social.emit_variant();

create or replace trigger emit_approved after update of status on social.content_variants
for each row when (new.status = 'approved' and old.status is distinct from 'approved') execute function social.emit_variant();

revoke all on function social.emit_variant() from public;
