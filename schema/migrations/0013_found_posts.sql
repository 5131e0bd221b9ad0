-- What is found out of a post after its event has ended: which one it is, where no answer named it.

create table social.found_posts (
  event_id bigint primary key,
  remote_id text not null,
  permalink text,
  found_at timestamptz not null default clock_timestamp(),
  constraint a_post_is_found_for_one_event unique (remote_id)
);

comment on table social.found_posts is 'Insert-only: the post of an event that ended as published without a word on which post that is, found later by looking.';
comment on column social.found_posts.event_id is 'The event, whose receipt has no remote_id. Not a foreign key: pruning events must cost nothing more.';
comment on column social.found_posts.remote_id is 'The id that Meta gave the post.';
comment on column social.found_posts.permalink is 'Where people see it; null where that could not be read.';
comment on column social.found_posts.found_at is 'When it was found.';

grant select, insert, delete on social.found_posts to outbox_relay;
grant select on social.found_posts to outbox_operator;

create index steps_that_name_no_post on outbox.steps (created_at)
where name = 'publish' and state = 'done' and detail @> '{"remote_id": null}';

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
  case
    when f.event_id is null then s.result
    else coalesce(s.result, '{}') || jsonb_build_object('remote_id', f.remote_id, 'permalink', f.permalink)
  end as result,
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
left join social.found_posts as f on f.event_id = s.id
where s.type = 'variant.created';
