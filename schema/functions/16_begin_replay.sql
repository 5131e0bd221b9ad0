-- Begins a replay of many events, and returns its id and how many events fit. Nothing is emitted yet:
-- outbox.continue_replay() does that, a slice at a time.
--
-- Called by: operators, through `outbox replay` or psql.
-- Locks:     none beyond the inserts.
-- Raises:    OB017 the filter is no object, or has a key that is none of outbox.replayable(): unheeded, it would make the
--            replay wider than asked; 23514 the rate is not positive, or there is no bound; what outbox.replayable() raises.
create or replace function outbox.begin_replay(
  filter jsonb,
  rate_per_second float8 default null,
  count_max bigint default 1000,
  force boolean default false,
  reason text default null,
  out replay_id bigint,
  out event_count bigint
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  begun_at timestamptz := clock_timestamp();
  events_until bigint := coalesce((select max(e.id) from outbox.events as e), 0);
  chosen jsonb := jsonb_strip_nulls(begin_replay.filter);
  criteria constant text[] := '{states,type,key,reason,error,since,until,emitted_before}';
begin
  if (jsonb_typeof(begin_replay.filter) = 'object' and begin_replay.filter - criteria = '{}') is not true then
    raise exception 'expected a filter of %, found %', array_to_string(criteria, ', '),
      case jsonb_typeof(begin_replay.filter)
        when 'object' then (select string_agg(k, ', ') from jsonb_object_keys(begin_replay.filter - criteria) as k)
        else coalesce(jsonb_typeof(begin_replay.filter), 'none')
      end
      using errcode = 'OB017';
  end if;
  replay_id := nextval('outbox.replays_id_seq');
  select count(*) into event_count
  from outbox.replayable(chosen, 0, events_until, begun_at, begin_replay.count_max);
  insert into outbox.replays (id, operation_id, filter, rate_per_second, count_max, force, events_until, begun_at)
  overriding system value
  values (
    replay_id,
    outbox.record(
      'replay', event_count, begin_replay.reason,
      detail => jsonb_build_object(
        'replay', replay_id, 'filter', chosen, 'rate_per_second', begin_replay.rate_per_second,
        'count_max', begin_replay.count_max, 'force', begin_replay.force
      )
    ),
    chosen, begin_replay.rate_per_second, begin_replay.count_max, begin_replay.force, events_until, begun_at
  );
end
$$;

comment on function outbox.begin_replay is 'Begins a replay of many events; outbox.continue_replay() emits them, a slice at a time.';

revoke all on function outbox.begin_replay from public;
grant execute on function outbox.begin_replay to outbox_operator;
