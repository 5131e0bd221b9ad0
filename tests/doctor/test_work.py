"""Each check of the work, made to find something on a real database."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest
from psycopg import AsyncConnection
from psycopg.rows import class_row

from outbox.doctor.finding import Level
from outbox.doctor.work import DELAYS, Delays, judge_delays
from publisher.handler import open_handler
from relay.app import serve
from tests.doctor.examining import STRICT, found
from tests.operations.histories import Histories
from tests.relay.publishing import open_instagram
from tests.relay.running import eventually, settings, value

pytestmark = pytest.mark.anyio


async def test_lanes_that_nobody_owns_are_told(database: str, histories: Histories) -> None:
    """No relay at all, some lanes, and none."""
    assert (await found(database, "lanes")).found == "no relay works"
    histories.connection.execute("update outbox.relays set leased_until = clock_timestamp() + interval '1 hour'")
    finding = await found(database, "lanes")
    assert (finding.level, finding.found) == (Level.FAIL, "64 of 64 lanes are nobody's, with 1 relays at work")
    histories.connection.execute("update outbox.lanes set relay_id = (select max(id) from outbox.relays)")
    assert (await found(database, "lanes")).level is Level.OK


async def test_a_backlog_that_ages_is_told(database: str, histories: Histories) -> None:
    """How many, and for how long."""
    histories.emit()
    assert (await found(database, "backlog")).level is Level.OK
    finding = await found(database, "backlog", thresholds=STRICT)
    assert finding.level is Level.FAIL
    assert finding.found.startswith("1 events are new or in flight, the oldest for ")


async def test_a_key_that_does_not_go_on_is_told(database: str, histories: Histories) -> None:
    """Unless it is held."""
    histories.wait(histories.emit(key="k"), "retry", due_at="2026-01-01Z")
    finding = await found(database, "stuck keys")
    assert (finding.level, "(k: 1, for " in finding.found) == (Level.FAIL, True)
    histories.hold("k")
    assert (await found(database, "stuck keys")).level is Level.OK


async def test_an_event_past_its_deadline_is_told(database: str, histories: Histories) -> None:
    """Nobody has ended it."""
    event_id = histories.emit(key="k")
    histories.connection.execute("update outbox.events set expires_at = '2026-01-01Z'")
    histories.wait(event_id, "retry", due_at="2026-01-01Z")
    finding = await found(database, "deadlines")
    assert (finding.level, f"event {event_id} first" in finding.found) == (Level.FAIL, True)


async def test_what_waits_for_a_person_is_told(database: str, histories: Histories) -> None:
    """With what to do."""
    event_id = histories.emit()
    histories.wait(event_id, "unknown")
    finding = await found(database, "unknown")
    assert (finding.level, f"event {event_id} first" in finding.found) == (Level.FAIL, True)


@pytest.mark.parametrize(
    ("key", "reason", "check", "level"),
    [
        ("", "an incident", "app", Level.FAIL),
        ("k", "token", "tokens", Level.FAIL),
        ("k", "rate_limited", "quota", Level.WARN),
        ("k", "wrong pictures", "holds", Level.WARN),
    ],
)
async def test_what_is_held_is_told(
    database: str, histories: Histories, *, key: str, reason: str, check: str, level: Level
) -> None:
    """By what ends it."""
    histories.hold(key)
    histories.connection.execute("update outbox.holds set reason = %s", [reason])
    assert (await found(database, check)).level is level


ACCOUNT = """
insert into social.accounts (platform, remote_id, name, token_ciphertext, token_expires_at, token_refresh_at)
values ('instagram', '17', 'n', '', clock_timestamp() + %s::interval, clock_timestamp())
"""
USAGE = """
insert into social.usage (subject, percent, read_at, quota_usage, quota_total, quota_read_at)
values ('instagram:17', %s, clock_timestamp(), %s, 50, clock_timestamp())
"""


@pytest.mark.parametrize(
    ("expires_in", "level", "part"),
    [
        (None, Level.OK, "no token"),
        ("8 days", Level.OK, "no token"),
        ("5 days", Level.WARN, "that of instagram:17 in 5 d"),
        ("-1 minute", Level.FAIL, "that of instagram:17 first"),
    ],
)
async def test_a_token_that_ends_soon_is_told(
    database: str, histories: Histories, *, expires_in: str | None, level: Level, part: str
) -> None:
    """A week ahead."""
    histories.connection.execute(ACCOUNT, [expires_in])
    finding = await found(database, "token expiry")
    assert (finding.level, part in finding.found) == (level, True)


@pytest.mark.parametrize(
    ("percent", "quota_usage", "level"),
    [(74, 37, Level.OK), (75, 0, Level.WARN), (0, 38, Level.WARN), (0, 50, Level.WARN)],
)
async def test_a_limit_that_is_nearly_used_up_is_told(
    database: str, histories: Histories, *, percent: int, quota_usage: int, level: Level
) -> None:
    """Of calls, and of publishes."""
    histories.connection.execute(ACCOUNT, [None])
    histories.connection.execute(USAGE, [percent, quota_usage])
    finding = await found(database, "headroom")
    assert finding.level is level
    if level is Level.WARN:
        assert f"{percent} % of its calls, {quota_usage} of 50 publishes" in finding.found


async def test_a_long_way_to_the_handler_is_told(database: str, histories: Histories) -> None:
    """From the variant to its event, to the handler, to the receipt; waits at the API lie behind the handler."""
    assert (await found(database, "delays")).found == "nothing was published in the last day"
    histories.connection.execute(ACCOUNT, [None])
    histories.connection.execute("select social.create_variant('instagram:17', 'https://cdn.example/a.jpg')")
    [[event_id]] = histories.fetch("select id from outbox.events")
    histories.end(event_id, "published")
    histories.connection.execute("update outbox.receipts set deferrals = 3, attempts = 0")
    finding = await found(database, "delays", thresholds=STRICT)
    assert finding.level is Level.FAIL
    for part in ("of 1 events", "variant to event", "event to handler", "handler to receipt"):
        assert part in finding.found


async def test_what_another_relay_began_counts_from_there(database: str, histories: Histories) -> None:
    """An event that waited is handled by whoever is next: its first step, or its first try, tells when it was read."""
    for began in ("step", "try"):
        event_id = histories.emit()
        if began == "step":
            histories.step(event_id, "container", "done")
        else:
            histories.attempt(event_id, "no answer")
        histories.end(event_id, "published")
    with histories.connection.transaction():  # in which now() stands still
        for query in (
            "update outbox.events set created_at = now() - interval '1 hour'",
            "update outbox.receipts set dispatched_at = now() - interval '1 minute', settled_at = now()",
            "update outbox.steps set created_at = now() - interval '59 minutes'",
            "update outbox.attempts set created_at = now() - interval '59 minutes'",
        ):
            histories.connection.execute(query.encode())
    finding = await found(database, "delays")
    assert "event to handler 60.0 s and 60.0 s; handler to receipt 59 min and 59 min" in finding.found


@pytest.mark.parametrize("short_deferral_seconds", [30.0, 0.01], ids=["in memory", "in a row"])
async def test_a_relay_that_waits_for_meta_is_told_from_its_first_look(
    database: str, monkeypatch: pytest.MonkeyPatch, short_deferral_seconds: float
) -> None:
    """Of real stories: the second that their containers take lies between handler and receipt, wherever they wait."""
    async with open_instagram(database, image_seconds=1) as instagram:
        for name, text in instagram.variables.items():
            monkeypatch.setenv(name, text)
        stop = anyio.Event()
        relay = settings(database, lease_seconds=15.0, short_deferral_seconds=short_deferral_seconds)
        async with (
            serve(relay, stop, factories={"variant.created": open_handler}),
            await AsyncConnection.connect(database, autocommit=True) as store,
        ):
            create = "select social.create_variant(%s, %s, publish_at => clock_timestamp() + %s * interval '1 second')"
            for seconds in (None, 2):
                await store.execute(create, [instagram.account, instagram.media_url, seconds])
            await eventually(partial(_all_published, store), seconds=60)
            async with store.cursor(row_factory=class_row(Delays)) as cursor:
                delays = await (await cursor.execute(DELAYS)).fetchone()
            stop.set()
    assert delays is not None
    assert delays.event_count == 2
    assert delays.publish_p50 is not None
    assert delays.publish_p50 >= 1
    assert delays.read_p50 is not None
    assert delays.read_p50 >= 0  # of the second one from when it was due
    assert delays.insert_p99 is not None
    assert delays.insert_p99 >= 0
    [finding] = judge_delays(delays, (30, 300))
    assert all(part in finding.found for part in ("variant to event", "event to handler", "handler to receipt"))


async def _all_published(store: AsyncConnection[Any]) -> bool:
    query = "select count(*) = 2 from outbox.receipts where outcome = 'published'"
    return bool(await value(store, query))
