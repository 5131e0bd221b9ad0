-- Has the audit tell that an account was added, got a new token, or had its token refreshed or encrypted anew. Never
-- the token.
--
-- Called by: the triggers on social.accounts, in the transaction of the change, which may name its reason in the
--            setting outbox.reason.
-- Locks:     none beyond the insert.
-- Raises:    nothing.
create or replace function social.record_account() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform outbox.record(
    'account', 0, nullif(current_setting('outbox.reason', true), ''), key => new.platform || ':' || new.remote_id,
    detail => jsonb_build_object('what', case
      when tg_op = 'INSERT' then 'added'
      when new.token_refreshed_at is distinct from old.token_refreshed_at then 'token refreshed'
      when new.token_set_at is distinct from old.token_set_at then 'token set'
      else 'token encrypted anew'
    end)
  );
  return null;
end
$$;

comment on function social.record_account() is 'Has the audit tell what became of an account''s token.';

create or replace trigger record_added after insert on social.accounts
for each row execute function social.record_account();

-- Of no column: what a trigger of the application sets before is in no list of the statement.
create or replace trigger record_token after update on social.accounts
for each row when (new.token_ciphertext is distinct from old.token_ciphertext) execute function social.record_account();

revoke all on function social.record_account() from public;
