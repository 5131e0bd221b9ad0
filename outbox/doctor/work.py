"""Whether the work is done: lanes, backlog, stuck keys, deadlines, unknown outcomes, holds, delays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg.rows import class_row

from outbox.doctor.finding import Finding, duration, fail, graded, ok, warn
from outbox.doctor.patient import Look, Patient
from outbox.holds import HoldInForce, find_holds
from outbox.ownership import LaneRow, find_lanes
from outbox.resolution import find_unknown

OWNERS: LiteralString = """
select
  count(*) filter (where r.id is null or r.retired_at is not null or r.leased_until <= clock_timestamp()) as unowned,
  (select count(*) from outbox.relays as w where w.retired_at is null and w.leased_until > clock_timestamp()) as relays
from outbox.lanes as l
left join outbox.relays as r on r.id = l.relay_id
"""

OVERDUE: LiteralString = """
select coalesce(w.key, ''), count(*), max(extract(epoch from clock_timestamp() - w.due_at))::float8
from (
  select d.key, d.due_at
  from outbox.lanes as l
  cross join lateral (
    select * from outbox.waiting as o
    where o.lane = l.lane and o.due_at < statement_timestamp() - %(seconds)s * interval '1 second'
    order by o.due_at
    limit 1000
  ) as d
) as w
where not exists (
  select from outbox.holds as h where h.held_until > clock_timestamp() and h.key in ('', w.key)
)
group by 1
order by 3 desc
limit 3
"""

PAST_DEADLINE: LiteralString = """
select count(*), min(e.id)
from (
  select d.event_id from outbox.lanes as l
  cross join lateral (
    select o.event_id from outbox.waiting as o
    where o.lane = l.lane and o.due_at < statement_timestamp() and o.reason <> 'unknown'
    order by o.due_at
    limit 1000
  ) as d
) as w
join outbox.events as e on e.id = w.event_id
where e.expires_at < clock_timestamp() - %(seconds)s * interval '1 second'
"""

DELAYS: LiteralString = """
with recent as materialized (
  select e.xid, e.created_at, greatest(e.created_at, e.publish_at) as owed_since,
    e.payload ->> 'variant_id' as variant_id, r.settled_at,
    -- The receipt's relay may not have been the first: what others left behind was dispatched before.
    least(
      r.dispatched_at,
      (select min(s.created_at) from outbox.steps as s where s.event_id = e.id),
      (select min(a.created_at) from outbox.attempts as a where a.event_id = e.id)
    ) as dispatched_at
  from (select * from outbox.events order by id desc limit 10000) as e
  join outbox.receipts as r on r.event_id = e.id
  where r.outcome = 'published' and r.settled_at > clock_timestamp() - interval '1 day'
)
select
  count(*) as event_count,
  percentile_cont(0.5) within group (order by extract(epoch from r.dispatched_at - r.owed_since)) as read_p50,
  percentile_cont(0.99) within group (order by extract(epoch from r.dispatched_at - r.owed_since)) as read_p99,
  percentile_cont(0.5) within group (order by extract(epoch from r.settled_at - r.dispatched_at)) as publish_p50,
  percentile_cont(0.99) within group (order by extract(epoch from r.settled_at - r.dispatched_at)) as publish_p99,
  percentile_cont(0.5) within group (order by v.seconds) as insert_p50,
  percentile_cont(0.99) within group (order by v.seconds) as insert_p99
from recent as r
left join lateral (
  -- Only what was inserted approved, and not changed since: a draft waits for a person.
  select extract(epoch from r.created_at - c.created_at) as seconds
  from social.content_variants as c
  where c.id = case when r.variant_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then r.variant_id::uuid end
    and c.xmin::text = (r.xid::text::numeric % 4294967296)::text
) as v on true
"""


ACCOUNTS: LiteralString = """
select s.key, s.token_state, s.token_refresh_at is not null as is_refreshed, s.quota_state, s.percent,
  s.quota_usage, s.quota_total, extract(epoch from s.token_expires_at - clock_timestamp())::float8 as expires_seconds
from social.account_states as s
where s.token_state in ('expiring', 'expired') or s.quota_state <> 'ok'
order by s.token_expires_at nulls last, s.key
limit 1000
"""


@dataclass(frozen=True, slots=True)
class AccountNearLimits:
    """An account whose token ends soon, or that is near a limit of Meta's."""

    key: str
    token_state: str
    is_refreshed: bool
    quota_state: str
    percent: int | None
    quota_usage: int | None
    quota_total: int | None
    expires_seconds: float | None


@dataclass(frozen=True, slots=True)
class Delays:
    """Of the events that were published in the last day: how long each part of the road took, in seconds."""

    event_count: int
    read_p50: float | None
    read_p99: float | None
    publish_p50: float | None
    publish_p99: float | None
    insert_p50: float | None
    insert_p99: float | None


async def look_at_lanes(patient: Patient) -> list[Finding]:
    """Who works."""
    [[unowned_count, relay_count]] = await (await patient.connection.execute(OWNERS)).fetchall()
    return [judge_lanes(unowned_count, relay_count)]


def judge_lanes(unowned_count: int, relay_count: int) -> Finding:
    """A lane that nobody owns is a lane that nobody reads."""
    if not relay_count:
        return fail("lanes", "no relay works", "start one: outbox relay; outbox relays tells which there were")
    if unowned_count:
        found = f"{unowned_count} of 64 lanes are nobody's, with {relay_count} relays at work"
        return fail("lanes", found, "look again in a minute: a dead relay's lanes are taken when its lease has ended")
    return ok("lanes", "one relay owns all 64 lanes" if relay_count == 1 else f"{relay_count} relays own all 64 lanes")


async def look_at_backlog(patient: Patient) -> list[Finding]:
    """What nobody has settled."""
    return [judge_backlog(await find_lanes(patient.connection), patient.thresholds.backlog_seconds)]


def judge_backlog(lanes: Sequence[LaneRow], bounds: tuple[float, float]) -> Finding:
    """Age, not depth: a queue that reads zero may be one that nobody reads."""
    count = sum(lane.unsettled_count for lane in lanes)
    more = "" if all(lane.is_complete for lane in lanes) else " or more"
    oldest = max((lane.oldest_seconds or 0.0 for lane in lanes), default=0.0)
    found = (
        f"{count}{more} events are new or in flight, the oldest for {duration(oldest)}" if count else "nothing is new"
    )
    return graded("backlog", oldest, bounds, found, "see whether relays work (outbox relays) and what they log")


async def look_at_stuck_keys(patient: Patient) -> list[Finding]:
    """Which keys do not go on though nothing holds them."""
    seconds = patient.thresholds.overdue_seconds
    rows = await (await patient.connection.execute(OVERDUE, {"seconds": seconds})).fetchall()
    return [judge_stuck_keys([(key, count, overdue) for key, count, overdue in rows])]


def judge_stuck_keys(keys: Sequence[tuple[str, int, float]]) -> Finding:
    """What is due and is not dispatched."""
    if not keys:
        return ok("stuck keys", "what is due is dispatched")
    told = ", ".join(f"{key or 'without a key'}: {count}, for {duration(seconds)}" for key, count, seconds in keys)
    advice = "see whether relays work (outbox relays); outbox events --state waiting --key KEY has the events"
    return fail("stuck keys", f"events are due and not dispatched ({told})", advice)


async def look_at_deadlines(patient: Patient) -> list[Finding]:
    """What should have expired."""
    arguments = {"seconds": patient.thresholds.overdue_seconds}
    [[count, first_id]] = await (await patient.connection.execute(PAST_DEADLINE, arguments)).fetchall()
    return [judge_deadlines(count, first_id)]


def judge_deadlines(count: int, first_id: int | None) -> Finding:
    """A relay at work ends them as expired."""
    if count:
        advice = "a relay at work ends them as expired: see outbox relays"
        return fail("deadlines", f"{count} events wait past their deadline, event {first_id} first", advice)
    return ok("deadlines", "nothing waits past its deadline")


async def look_at_unknown(patient: Patient) -> list[Finding]:
    """What waits for a person."""
    found = await find_unknown(patient.connection, for_a_person=True, limit=1000)
    return [judge_unknown([each.event_id for each in found])]


def judge_unknown(event_ids: Sequence[int]) -> Finding:
    """Nobody but a person can end these."""
    if event_ids:
        found = f"{len(event_ids)} events may be live and wait for a person, event {event_ids[0]} first"
        return fail("unknown", found, "outbox unknown list; look at the account; outbox resolve ID")
    return ok("unknown", "nothing waits for a person")


async def look_at_holds(patient: Patient) -> list[Finding]:
    """What pauses, and why."""
    return judge_holds(await find_holds(patient.connection))


def judge_holds(holds: Sequence[HoldInForce]) -> list[Finding]:
    """A hold on the app stops everything, a token's ends with a new token, a limit's by itself."""
    app = [hold for hold in holds if hold.scope == "app"]
    tokens = [hold.key for hold in holds if hold.scope == "key" and hold.reason == "token"]
    limited = [hold.key or "the app" for hold in holds if hold.reason == "rate_limited"]
    rest = [hold for hold in holds if hold.scope == "key" and hold.reason not in {"token", "rate_limited", "unknown"}]
    findings = [
        fail("app", f"the app is held by {app[0].held_by}: {app[0].reason}", "outbox release --app when it is over")
        if app
        else ok("app", "it is not held"),
        fail(
            "tokens",
            f"{len(tokens)} accounts wait for a token, {tokens[0]} first",
            "outbox accounts add, with a new one",
        )
        if tokens
        else ok("tokens", "no account waits for a token"),
        warn("quota", f"{len(limited)} are held by a limit, {limited[0]} first", "it ends by itself: outbox holds")
        if limited
        else ok("quota", "nothing is held by a limit"),
    ]
    if rest:
        found = f"{len(rest)} other keys are held, {rest[0].key} first: {rest[0].reason}"
        findings.append(warn("holds", found, "outbox holds; outbox release KEY when it is over"))
    return findings


async def look_at_accounts(patient: Patient) -> list[Finding]:
    """Which tokens end soon, and what is left of Meta's limits."""
    async with patient.connection.cursor(row_factory=class_row(AccountNearLimits)) as cursor:
        return judge_accounts(await (await cursor.execute(ACCOUNTS)).fetchall())


def judge_accounts(accounts: Sequence[AccountNearLimits]) -> list[Finding]:
    """Judge what is not well: of tokens, and of what is left of Meta's limits."""
    return [_judge_tokens(accounts), _judge_headroom([each for each in accounts if each.quota_state != "ok"])]


def _judge_tokens(accounts: Sequence[AccountNearLimits]) -> Finding:
    """An expired token publishes nothing; one that is about to is a warning."""
    expired = [each for each in accounts if each.token_state == "expired"]  # noqa: S105 (a state)
    ending = [each for each in accounts if each.token_state == "expiring"]  # noqa: S105 (a state)
    advice = "outbox accounts add, with a new one"
    if expired:
        return fail("token expiry", f"{len(expired)} tokens have expired, that of {expired[0].key} first", advice)
    if not ending:
        return ok("token expiry", "no token is known to expire within 7 days")
    first = ending[0]
    found = f"{len(ending)} tokens expire within 7 days, that of {first.key} in {duration(first.expires_seconds or 0)}"
    if first.is_refreshed:
        advice = f"the relays' logs say why they could not refresh it (token.unrefreshed); else {advice}"
    return warn("token expiry", found, advice)


def _judge_headroom(near: Sequence[AccountNearLimits]) -> Finding:
    """A limit that is nearly used up delays, and loses nothing."""
    if not near:
        return ok("headroom", "every account is below 75 % of its limits, as far as Meta has said")
    first = near[0]
    of_quota = "" if first.quota_usage is None else f", {first.quota_usage} of {first.quota_total} publishes"
    found = f"{len(near)} accounts are slow or held, {first.key} first: {first.percent or 0} % of its calls{of_quota}"
    return warn("headroom", found, "outbox accounts show KEY; what is put off goes on by itself")


async def look_at_delays(patient: Patient) -> list[Finding]:
    """How long variant insert, event, read and publish lie apart."""
    async with patient.connection.cursor(row_factory=class_row(Delays)) as cursor:
        delays = await (await cursor.execute(DELAYS)).fetchone()
    assert delays is not None
    return judge_delays(delays, patient.thresholds.delay_seconds)


def judge_delays(delays: Delays, bounds: tuple[float, float]) -> list[Finding]:
    """Only the way to the handler is ours: how long publishing takes, its waits included, is the API's."""
    if not delays.event_count:
        return [ok("delays", "nothing was published in the last day")]
    read = _spread("event to handler", delays.read_p50, delays.read_p99)
    rest = (
        _spread("variant to event", delays.insert_p50, delays.insert_p99),
        _spread("handler to receipt", delays.publish_p50, delays.publish_p99),
    )
    found = f"of {delays.event_count} events, p50 and p99: {'; '.join(filter(None, (rest[0], read, rest[1])))}"
    advice = (
        "see the backlog, the lanes and whether LISTEN works; long transactions of the application delay their events, "
        "and so do holds and sequences"
    )
    return [graded("delays", delays.read_p99 or 0.0, bounds, found, advice)]


def _spread(what: str, middle: float | None, high: float | None) -> str:
    return "" if middle is None or high is None else f"{what} {duration(middle)} and {duration(high)}"


LOOKS: Sequence[tuple[str, Look]] = (
    ("lanes", look_at_lanes),
    ("backlog", look_at_backlog),
    ("stuck keys", look_at_stuck_keys),
    ("deadlines", look_at_deadlines),
    ("unknown", look_at_unknown),
    ("holds", look_at_holds),
    ("accounts", look_at_accounts),
    ("delays", look_at_delays),
)
