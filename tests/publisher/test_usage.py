"""What usage headers say, and how an account goes on near its limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from heapq import heappop, heappush

import pytest
from prometheus_client import CollectorRegistry

from outbox.event import EventId
from outbox.handler import Runtime
from outbox.outcome import Defer, Hold, Published, Reason
from publisher.accounts import show_account
from publisher.gauges import Gauges
from publisher.handler import VariantHandler, open_handler_with
from publisher.meter import Meter
from publisher.usage import (
    APP,
    HELD_PERCENT,
    HOUR,
    SLOW_PERCENT,
    Pace,
    Usage,
    pause_seconds,
    read_usage,
    regain_seconds,
)
from tests.publisher.kinds import KIND
from tests.publisher.stage import Stage

pytestmark = pytest.mark.anyio
KEY = "instagram:17841472020051826"
# Recorded live: a call of an Instagram account, of a Page, and of an app (sheet 5.2).
INSTAGRAM = (
    '{"645699291956344":[{"type":"instagram","call_count":1,"total_cputime":1,"total_time":1,'
    '"estimated_time_to_regain_access":0}],"17841472020051826":[{"type":"instagram","call_count":3,"total_cputime":1,'
    '"total_time":1,"estimated_time_to_regain_access":0}]}'
)
# Of a business that advertises and answers messages, too.
OTHER_USE_CASES = (
    '{"645699291956344":[{"type":"ads_management","call_count":100,"estimated_time_to_regain_access":60},'
    '{"type":"ads_insights","total_time":97},{"type":"custom_audience","call_count":91},{"type":"leadgen","call_count":92},'
    '{"type":"messenger","call_count":93}%s]}'
)
STATES = "select quota_state, percent from social.account_states"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, {}),
        ({"X-App-Usage": '{"call_count":28,"total_time":25,"total_cputime":30}'}, {APP: Usage(30)}),
        ({"X-Business-Use-Case-Usage": INSTAGRAM}, {KEY: Usage(3)}),
        (
            {"X-Business-Use-Case-Usage": '{"1":[{"call_count":97,"estimated_time_to_regain_access":19}]}'},
            {KEY: Usage(97, 1140)},
        ),
        ({"X-Business-Use-Case-Usage": OTHER_USE_CASES % ""}, {}),
        ({"X-Business-Use-Case-Usage": OTHER_USE_CASES % ',{"type":"pages","call_count":4}'}, {KEY: Usage(4)}),
        ({"X-Business-Use-Case-Usage": OTHER_USE_CASES % ',{"type":"new","call_count":95}'}, {KEY: Usage(95)}),
        ({"X-Page-Usage": '{"call_count":76,"total_time":0,"total_cputime":0}'}, {KEY: Usage(76)}),
        ({"X-App-Usage": "{not json", "X-Business-Use-Case-Usage": '["what"]', "X-Page-Usage": "7"}, {}),
        ({"X-App-Usage": '{"call_count":"many","total_time":true,"total_cputime":-1}'}, {}),
        ({"X-Business-Use-Case-Usage": '{"1":[7,{"call_count":1e12}],"2":{}}'}, {KEY: Usage(1_000_000)}),
    ],
)
def test_the_highest_figure_counts(headers: dict[str, str], found: dict[str, Usage]) -> None:
    """A header that is missing, or nonsense, says nothing: it is not zero."""
    assert read_usage(headers, KEY) == found


def test_the_wait_of_another_use_case_is_not_waited_for() -> None:
    """An error's, too: it is for what publishes that access comes back."""
    assert regain_seconds({"X-Business-Use-Case-Usage": OTHER_USE_CASES % ""}) is None


@pytest.mark.parametrize(
    ("usage", "pace", "seconds"),
    [
        (Usage(0), Pace.OK, 0),
        (Usage(SLOW_PERCENT - 1), Pace.OK, 0),
        (Usage(SLOW_PERCENT), Pace.SLOW, 0),
        (Usage(HELD_PERCENT - 1), Pace.SLOW, 0),
        (Usage(HELD_PERCENT), Pace.HELD, HOUR),
        (Usage(100, 420), Pace.HELD, 420),
        (Usage(0, 60), Pace.HELD, 60),
    ],
)
def test_slow_from_75_held_from_90_or_for_a_stated_time(usage: Usage, pace: Pace, seconds: float) -> None:
    """A stated time goes before the hour."""
    assert (usage.pace, usage.hold_seconds()) == (pace, seconds)


def test_the_pause_grows_with_the_figure() -> None:
    """From the first one to the longest one."""
    pauses = [pause_seconds(percent, (2, 30)) for percent in range(SLOW_PERCENT, HELD_PERCENT)]
    assert (pauses[0], pauses[-1]) == (2, 30)
    assert pauses == sorted(pauses)


@dataclass
class Hands:
    """A clock that stands until it is set."""

    now: float = 1000.0

    def __call__(self) -> float:
        """The time that it shows."""
        return self.now


def metered(stage: Stage, percent: int, *, header: str = "X-Page-Usage") -> tuple[Meter, Hands]:
    hands = Hands()
    meter = Meter(stage.connections, (2, 30), clock=hands)
    meter.note(KEY, {header: f'{{"call_count":{percent}}}'})
    return meter, hands


async def test_near_the_limit_events_take_turns(stage: Stage) -> None:
    """In the order in which they asked, at no attempt; each has its turn kept."""
    meter, hands = metered(stage, SLOW_PERCENT)
    first, second, third = (meter.admit(KEY, EventId(number)) for number in (1, 2, 3))
    assert first is None
    assert second == Defer(2, Reason.RATE_LIMITED)
    assert third == Defer(4, Reason.RATE_LIMITED)
    hands.now += 2
    assert meter.admit(KEY, EventId(2)) is None
    assert meter.admit(KEY, EventId(3)) == Defer(2, Reason.RATE_LIMITED)
    assert meter.admit("instagram:2", EventId(9)) is None


async def test_who_waits_for_one_line_keeps_its_turn_in_the_other(stage: Stage) -> None:
    """App and accounts are both near their limits: each account goes as often as the others, and no turn is wasted."""
    meter, hands = metered(stage, SLOW_PERCENT)
    accounts = [f"instagram:{number}" for number in range(3)]
    for account in accounts:
        meter.note(account, {"X-App-Usage": '{"call_count":76}', "X-Page-Usage": '{"call_count":80}'})
    asks = [(hands.now, number, account) for number, account in enumerate(accounts)]
    until, went = hands.now + 600, dict.fromkeys(accounts, 0)
    event_ids = dict(zip(accounts, range(100, 103), strict=True))
    while asks[0][0] < until:
        hands.now, number, account = heappop(asks)
        waits = meter.admit(account, EventId(event_ids[account]))
        if waits is None:
            went[account] += 1
            event_ids[account] += 3
        heappush(asks, (hands.now + (0.5 if waits is None else waits.delay_seconds), number, account))
    assert max(went.values()) - min(went.values()) <= 1
    assert sum(went.values()) == pytest.approx(600 / pause_seconds(76, meter.slow_seconds), abs=2)


async def test_turns_end_when_the_figure_falls(stage: Stage) -> None:
    """And when it is an hour old."""
    meter, hands = metered(stage, SLOW_PERCENT)
    assert [meter.admit(KEY, EventId(n)) for n in (1, 2)] == [None, Defer(2, Reason.RATE_LIMITED)]
    hands.now += HOUR
    assert [meter.admit(KEY, EventId(n)) for n in (2, 3, 4)] == [None] * 3
    meter.note(KEY, {"X-Page-Usage": '{"call_count":80}'})
    assert [type(meter.admit(KEY, EventId(n))) for n in (5, 6)] == [type(None), Defer]
    meter.note(KEY, {"X-Page-Usage": '{"call_count":5}'})
    assert meter.admit(KEY, EventId(6)) is None


@pytest.mark.parametrize(("header", "scope"), [("X-Page-Usage", "key"), ("X-App-Usage", "app")])
async def test_from_90_on_whoever_it_is_about_pauses_for_the_hour(stage: Stage, header: str, scope: str) -> None:
    """The account or the app; later, for what is left of it."""
    meter, hands = metered(stage, HELD_PERCENT, header=header)
    hands.now += 600
    hold = meter.admit(KEY, EventId(1))
    assert isinstance(hold, Hold)
    assert (hold.delay_seconds, hold.reason, hold.scope) == (HOUR - 600, "rate_limited", scope)
    other = meter.admit("instagram:2", EventId(2))
    assert (other is None) == (scope == "key")
    hands.now += HOUR
    assert meter.admit(KEY, EventId(1)) is None


async def test_where_no_time_is_stated_the_setting_says_how_long(stage: Stage) -> None:
    """As after a limit error: one pause, one setting."""
    hands = Hands()
    meter = Meter(stage.connections, (2, 30), limit_seconds=4, clock=hands)
    meter.note(KEY, {"X-Page-Usage": '{"call_count":100}'})
    hold = meter.admit(KEY, EventId(1))
    assert isinstance(hold, Hold)
    assert hold.delay_seconds == 4
    hands.now += 4
    assert meter.admit(KEY, EventId(1)) is None


async def test_a_stated_time_is_not_shortened_by_a_figure(stage: Stage) -> None:
    """Another call's answer that states none; but a low figure ends it."""
    hands = Hands()
    meter = Meter(stage.connections, (2, 30), clock=hands)
    meter.note(KEY, {"X-Business-Use-Case-Usage": '{"1":[{"call_count":99,"estimated_time_to_regain_access":120}]}'})
    meter.note(KEY, {"X-Business-Use-Case-Usage": '{"1":[{"call_count":91,"estimated_time_to_regain_access":0}]}'})
    hold = meter.admit(KEY, EventId(1))
    assert isinstance(hold, Hold)
    assert hold.delay_seconds == 7200
    meter.note(KEY, {"X-Business-Use-Case-Usage": '{"1":[{"call_count":9,"estimated_time_to_regain_access":0}]}'})
    assert meter.admit(KEY, EventId(1)) is None


async def test_relays_share_what_they_read(stage: Stage) -> None:
    """And it outlives them, with the time that has passed."""
    meter, _ = metered(stage, 93)
    await meter.share()
    other = Meter(stage.connections, (2, 30))
    assert other.admit(KEY, EventId(1)) is None
    await other.share()
    hold = other.admit(KEY, EventId(1))
    assert isinstance(hold, Hold)
    assert HOUR - 60 < hold.delay_seconds <= HOUR
    other.note(KEY, {"X-Page-Usage": '{"call_count":3}'})
    assert other.admit(KEY, EventId(1)) is None


async def test_the_newest_figure_of_the_app_comes_with_the_variant(stage: Stage) -> None:
    """What another relay stored holds this one at its next event, with a statement that is made anyway."""
    event = await stage.approve("instagram image")
    other = Meter(stage.connections, (2, 30))
    other.note("facebook:1", {"X-App-Usage": f'{{"call_count":{HELD_PERCENT}}}'})
    await other.share()
    hold = await stage.dispatch(event)
    assert isinstance(hold, Hold)
    assert (hold.reason, hold.scope) == ("rate_limited", "app")
    assert (await stage.graph.control("GET", "counts"))["counts"] == {}


async def test_relays_share_the_pause_of_the_app(stage: Stage) -> None:
    """Each of three spreads its calls three times as far; an account's calls are one relay's alone."""
    await stage.execute("update outbox.relays set leased_until = now() + interval '1 minute'")
    [(alive,)] = await stage.rows("select count(*) from outbox.relays where retired_at is null")
    await stage.execute(
        "insert into outbox.relays (name, version, leased_until, retired_at) "
        "select 'host', '1', now() + n * interval '1 minute', case n when 9 then now() end "
        "from unnest(array[-1, 9] || array_fill(1, array[%s])) as n",
        3 - alive,
    )
    for header, pause in (("X-App-Usage", 6), ("X-Page-Usage", 2)):
        meter, _ = metered(stage, SLOW_PERCENT, header=header)
        await meter.share()
        assert [meter.admit(KEY, EventId(n)) for n in (1, 2)] == [None, Defer(pause, Reason.RATE_LIMITED)], header
        await stage.execute("delete from social.usage")


async def test_the_table_is_written_when_a_step_is_crossed_else_once_a_minute(stage: Stage) -> None:
    """It is no hot row."""
    hands = Hands()
    meter = Meter(stage.connections, (2, 30), clock=hands)
    written: list[int] = []
    for percent, seconds in ((10, 0), (14, 1), (19, 1), (20, 1), (21, 1), (22, 90), (74, 1), (75, 1), (76, 1)):
        hands.now += seconds
        meter.note(KEY, {"X-Page-Usage": f'{{"call_count":{percent}}}'})
        await meter.share()
        written.append((await stage.rows("select percent from social.usage"))[0][0])
    assert written == [10, 10, 10, 20, 20, 22, 74, 75, 75]


async def test_an_account_near_its_limit_is_held_before_meta_refuses(stage: Stage) -> None:
    """From the answers of real calls; its event has used no attempt, and the gauges tell."""
    await stage.owner("instagram")
    owner = await stage.owner("instagram")
    await stage.graph.control("PATCH", f"accounts/{owner.id}", {"usage": {"call_count": 92}})
    assert isinstance((await stage.play(await stage.approve("instagram image"))).end, Published)
    event = await stage.approve("instagram image")
    before = (await stage.graph.control("GET", "counts"))["counts"]
    hold = await stage.dispatch(event)
    assert isinstance(hold, Hold)
    assert (hold.reason, hold.scope) == ("rate_limited", "key")
    assert (await stage.graph.control("GET", "counts"))["counts"] == before
    assert isinstance(stage.handler, VariantHandler)
    await stage.handler.meter.share()
    assert await stage.rows(STATES) == [("held", 92)]
    await Gauges(stage.connections, stage.handler.metrics).read()
    assert stage.metric("outbox_accounts_quota", state="held") == 1
    assert stage.metric("outbox_accounts_quota", state="ok") == 0
    assert stage.metric("outbox_limit_used_ratio", limit="account_calls") == 0.92


async def test_a_page_is_held_by_what_its_own_header_says(stage: Stage) -> None:
    """X-Page-Usage of real answers, whose other headers are low: kept, shown, counted, and obeyed."""
    owner = await stage.owner("facebook")
    key, low = f"facebook:{owner.id}", {"call_count": 3, "total_time": 3, "total_cputime": 3}
    await stage.graph.use(page_usage_header=True)
    await stage.graph.control("PATCH", f"accounts/{owner.id}", {"usage": {"total_time": 93}})
    for call in KIND["facebook image"].calls:
        await stage.graph.fault(call, "delay", times=None, usage=low)
    assert isinstance((await stage.play(await stage.approve("facebook image"))).end, Published)
    assert isinstance(stage.handler, VariantHandler)
    await stage.handler.meter.share()
    assert await stage.rows("select percent from social.usage where subject = %s", key) == [(93,)]
    async with stage.connections.connection() as connection:
        shown = await show_account(connection, key)
    assert (shown.quota_state, shown.percent) == ("held", 93)
    await Gauges(stage.connections, stage.handler.metrics).read()
    assert stage.metric("outbox_accounts_quota", state="held") == 1
    assert stage.metric("outbox_limit_used_ratio", limit="account_calls") == 0.93
    hold = await stage.dispatch(await stage.approve("facebook image"))
    assert isinstance(hold, Hold)
    assert (hold.reason, hold.scope) == ("rate_limited", "key")


async def test_gauges_tell_how_much_of_each_limit_is_used(stage: Stage) -> None:
    """Of the account that has used most, and of the app; what Meta said too long ago is not known any more."""
    statement = (
        "insert into social.usage (subject, percent, read_at, quota_usage, quota_total, quota_read_at) "
        "values (%s, %s, clock_timestamp() - %s * interval '1 hour', %s, 100, clock_timestamp() - interval '2 hours')"
    )
    await stage.execute(statement, "app", 81, 2, None)
    await stage.execute(statement, KEY, 12, 0, 30)
    await stage.execute(statement, "instagram:2", 44, 0, 90)
    assert isinstance(stage.handler, VariantHandler)
    gauges = Gauges(stage.connections, stage.handler.metrics)
    await gauges.read()
    used = {limit: stage.metric("outbox_limit_used_ratio", limit=limit) for limit in ("account_calls", "publishes")}
    assert used == {"account_calls": 0.44, "publishes": 0.9}
    assert math.isnan(stage.metric("outbox_limit_used_ratio", limit="app_calls"))
    await stage.execute("update social.usage set read_at = clock_timestamp() where subject = 'app'")
    await gauges.read()
    assert stage.metric("outbox_limit_used_ratio", limit="app_calls") == 0.81


async def test_a_restarted_relay_knows_the_limits(stage: Stage) -> None:
    """Before its first call."""
    await stage.graph.use(app_usage_percent=95)
    assert isinstance((await stage.play(await stage.approve("facebook image"))).end, Published)
    assert isinstance(stage.handler, VariantHandler)
    await stage.handler.meter.share()
    event = await stage.approve("facebook image")
    async with open_handler_with(Runtime(stage.connections, CollectorRegistry()), stage.settings) as handler:
        stage.handler = handler
        hold = await stage.dispatch(event)
    assert isinstance(hold, Hold)
    assert hold.scope == "app"


@pytest.mark.parametrize(
    ("percent", "state"), [(SLOW_PERCENT - 1, "ok"), (SLOW_PERCENT, "slow"), (HELD_PERCENT, "held")]
)
async def test_sql_draws_the_lines_where_the_code_does(stage: Stage, percent: int, state: str) -> None:
    """In social.account_states."""
    owner = await stage.owner("instagram")
    statement = "insert into social.usage (subject, percent, read_at) values (%s, %s, clock_timestamp())"
    await stage.execute(statement, f"instagram:{owner.id}", percent)
    assert await stage.rows(STATES) == [(state, percent)]
