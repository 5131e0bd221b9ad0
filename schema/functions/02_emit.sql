-- Writes an event into the log, in the caller's transaction, and returns its id.
--
-- Called by: applications, from any driver; social.emit_to_account(); outbox.emit_again().
-- Locks:     none beyond the insert; a concurrent emit of the same dedupe_key waits for the first one's end.
-- Raises:    23514 (check_violation) where a rule of the log says no, with the rule's name as the constraint's; 23502 without a type; 40001
--            when the dedupe_key was emitted by a transaction that a REPEATABLE READ or SERIALIZABLE snapshot can't see.
--
-- The transaction takes its xid with the insert, before its trigger looks at the bell: a relay that falls asleep waits for
-- every xid below its horizon, and so for every transaction that may have found the bell muted.
--
-- The rules of the log stand here, not in check constraints: emit() is its only writer, and PostgreSQL reads each check
-- constraint of a table anew for every statement that inserts into it. PL/pgSQL prepares its expressions anew for every
-- transaction: so what few events have is behind a condition, and an insert that can't meet another of its dedupe key is a plain one.
--
-- Names and operators are qualified because the function runs with the rights of the log's owner and the search_path of
-- whoever calls it; setting one for its duration takes time at every call.
create or replace function outbox.emit(
  type text,
  payload jsonb default '{}',
  key text default null,
  sequence text default null,
  dedupe_key text default null,
  publish_at timestamptz default null,
  expires_at timestamptz default null,
  headers jsonb default '{}',
  replay_of bigint default null
) returns bigint
language plpgsql
security definer
as $$
#variable_conflict use_column
declare
  event_id bigint;
  event_lane smallint := coalesce(
    pg_catalog.hashtextextended(emit.key, 0) operator(pg_catalog.&) 63::bigint,
    pg_catalog.floor(pg_catalog.random() operator(pg_catalog.*) 64::double precision)::bigint
  );
  broken_rule pg_catalog.text := case
    when emit.type operator(pg_catalog.=) '' then 'a_type_is_not_empty'
    -- Of all JSON only an object contains the empty one.
    when not emit.payload operator(pg_catalog.@>) '{}' then 'a_payload_is_an_object'
    when not emit.headers operator(pg_catalog.@>) '{}' then 'headers_are_an_object'
    when greatest(pg_catalog.octet_length(emit.key), pg_catalog.octet_length(emit.sequence)) operator(pg_catalog.>) 1000
      then 'a_key_and_a_sequence_have_1000_bytes_at_most'
    -- Where holds are looked up the empty key stands for the whole app.
    when emit.key operator(pg_catalog.=) '' then 'a_key_is_not_empty'
    when pg_catalog.octet_length(emit.dedupe_key) operator(pg_catalog.>) 1000 then 'a_dedupe_key_has_1000_bytes_at_most'
    when pg_catalog.starts_with(emit.dedupe_key, 'replay:')
      and (emit.dedupe_key operator(pg_catalog.=) pg_catalog.concat('replay:', emit.replay_of)) is not true
      then 'the_dedupe_key_of_a_replay_names_what_it_replays'
    when emit.sequence is not null and emit.key is null then 'a_sequence_needs_a_key'
  end;
begin
  if emit.publish_at is not null or emit.expires_at is not null then
    broken_rule := coalesce(broken_rule, case
      when emit.expires_at operator(pg_catalog.<=) emit.publish_at then 'an_event_expires_after_it_is_due'
      -- Infinity is no instant to most languages: one such event would stop its readers.
      when emit.publish_at operator(pg_catalog.<) '1970-01-01Z' or emit.publish_at operator(pg_catalog.>) '9000-01-01Z'
        or emit.expires_at operator(pg_catalog.<) '1970-01-01Z' or emit.expires_at operator(pg_catalog.>) '9000-01-01Z'
        then 'instants_are_between_1970_and_9000'
    end);
  end if;
  if broken_rule is not null then
    raise check_violation using
      message = pg_catalog.format('outbox.emit() was given an event that breaks the rule "%s"', broken_rule),
      schema = 'outbox', table = 'events', constraint = broken_rule;
  end if;
  if emit.dedupe_key is null then
    insert into outbox.events (xid, lane, key, sequence, type, payload, headers, publish_at, expires_at, replay_of)
    values (
      pg_catalog.pg_current_xact_id(), event_lane, emit.key, emit.sequence, emit.type, emit.payload, emit.headers,
      emit.publish_at, emit.expires_at, emit.replay_of
    )
    returning id into event_id;
    return event_id;
  end if;
  loop
    insert into outbox.events (
      xid, lane, key, sequence, type, payload, headers, dedupe_key, publish_at, expires_at, replay_of
    )
    values (
      pg_catalog.pg_current_xact_id(), event_lane, emit.key, emit.sequence, emit.type, emit.payload, emit.headers,
      emit.dedupe_key, emit.publish_at, emit.expires_at, emit.replay_of
    )
    on conflict (dedupe_key) where dedupe_key is not null do nothing
    returning id into event_id;
    exit when event_id is not null;
    select e.id into event_id from outbox.events as e where e.dedupe_key operator(pg_catalog.=) emit.dedupe_key;
    exit when event_id is not null;
    -- It was pruned between the two: its dedupe key is free.
  end loop;
  return event_id;
end
$$;

comment on function outbox.emit is 'Writes an event into the log, in the caller''s transaction, and returns its id; the first one''s id where dedupe_key was emitted before.';

revoke all on function outbox.emit from public;
grant execute on function outbox.emit to outbox_emitter;
