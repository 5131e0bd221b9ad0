-- Limits and tokens as data: how near each account and the app are to Meta's limits, and how long tokens last.
--
--   small, mutable   usage: a row for each account and one for the app, written when a figure crosses a step

create table social.usage (
  subject text primary key,
  percent integer not null default 0,
  held_until timestamptz,
  read_at timestamptz,
  quota_usage integer,
  quota_total integer,
  quota_read_at timestamptz,
  constraint a_percentage_is_not_negative check (percent >= 0)
);

comment on table social.usage is 'What Meta last said of how much of its limits is used up: what relays share, and what survives them. Small and mutable.';
comment on column social.usage.subject is 'The key of an account, or app.';
comment on column social.usage.percent is 'The highest figure of the usage headers of the last answer, in percent.';
comment on column social.usage.held_until is 'Until when Meta said that calls are refused.';
comment on column social.usage.read_at is 'When the answer with these headers came; null where none came yet.';
comment on column social.usage.quota_usage is 'Publishes of the last 24 hours, by content_publishing_limit.';
comment on column social.usage.quota_total is 'How many there may be.';
comment on column social.usage.quota_read_at is 'When that was asked.';

grant select, insert, update on social.usage to outbox_relay;
grant select on social.usage to outbox_operator;

alter table social.accounts
  add column token_expires_at timestamptz,
  add column token_refresh_at timestamptz,
  add column token_refreshed_at timestamptz;

comment on column social.accounts.token_expires_at is 'When the token expires; null where it does not, or where nobody knows.';
comment on column social.accounts.token_refresh_at is 'When a relay refreshes the token: Instagram Login only. The relay that does it moves it ahead first.';
comment on column social.accounts.token_refreshed_at is 'When a relay refreshed the token last.';

grant update (token_ciphertext, token_set_at, token_expires_at, token_refresh_at, token_refreshed_at) on social.accounts to outbox_relay;
grant select (token_expires_at, token_refresh_at, token_refreshed_at), insert (token_expires_at, token_refresh_at),
  update (token_expires_at, token_refresh_at) on social.accounts to outbox_operator;

-- What an account has used up of its daily limits: steps that name their account, containers and intents.
create index steps_by_account on outbox.steps ((detail ->> 'account'), created_at) where detail ? 'account';

create view social.account_states as
select
  a.id,
  a.platform || ':' || a.remote_id as key,
  a.platform,
  a.remote_id,
  a.name,
  case
    when h.reason = 'token' then 'refused'
    when a.token_expires_at <= clock_timestamp() then 'expired'
    when a.token_expires_at <= clock_timestamp() + interval '7 days' then 'expiring'
    else 'ok'
  end as token_state,
  a.token_set_at,
  a.token_expires_at,
  a.token_refresh_at,
  a.token_refreshed_at,
  case
    when h.reason = 'rate_limited' then 'held'
    when u.held_until > clock_timestamp() then 'held'
    when u.percent >= 90 and u.read_at > clock_timestamp() - interval '1 hour' then 'held'
    when u.quota_usage >= u.quota_total and u.quota_read_at > clock_timestamp() - interval '1 day' then 'held'
    when u.percent >= 75 and u.read_at > clock_timestamp() - interval '1 hour' then 'slow'
    when u.quota_usage >= 0.75 * u.quota_total and u.quota_read_at > clock_timestamp() - interval '1 hour' then 'slow'
    else 'ok'
  end as quota_state,
  u.percent,
  u.read_at,
  u.quota_usage,
  u.quota_total,
  u.quota_read_at,
  h.held_until,
  h.reason as held_because,
  a.created_at
from social.accounts as a
left join social.usage as u on u.subject = a.platform || ':' || a.remote_id
left join outbox.holds as h
  on h.scope = 'key' and h.key = a.platform || ':' || a.remote_id and h.held_until > clock_timestamp();

comment on view social.account_states is 'How each account stands: its token, and how near it is to Meta''s limits. Without the token.';
comment on column social.account_states.id is 'Our id.';
comment on column social.account_states.key is 'The key of its events.';
comment on column social.account_states.platform is 'instagram or facebook.';
comment on column social.account_states.remote_id is 'The IG user id or the Page id.';
comment on column social.account_states.name is 'For people.';
comment on column social.account_states.token_state is 'ok, expiring (within 7 days), expired, or refused (Meta did; held until there is a new one).';
comment on column social.account_states.token_set_at is 'When the token was stored.';
comment on column social.account_states.token_expires_at is 'When it expires; null where it does not, or where nobody knows.';
comment on column social.account_states.token_refresh_at is 'When a relay refreshes it; null where it can''t be.';
comment on column social.account_states.token_refreshed_at is 'When a relay did so last.';
comment on column social.account_states.quota_state is 'ok, slow (from 75 % of a limit), or held (from 90 % of calls, at the quota, or until the time that Meta stated).';
comment on column social.account_states.percent is 'Of its calls, as the last answer said.';
comment on column social.account_states.read_at is 'When it said so.';
comment on column social.account_states.quota_usage is 'Publishes in 24 hours, when that was asked.';
comment on column social.account_states.quota_total is 'How many there may be.';
comment on column social.account_states.quota_read_at is 'When that was asked.';
comment on column social.account_states.held_until is 'Until when it is held; infinity waits for a person.';
comment on column social.account_states.held_because is 'Why.';
comment on column social.account_states.created_at is 'When the account was added.';

grant select on social.account_states to outbox_relay, outbox_operator;
