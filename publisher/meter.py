"""How near the accounts and the app are to Meta's call limits: kept in memory, shared through `social.usage`.

    answer ──▶ note ──▶ [book] ──▶ admit ──▶ go on, wait for a turn, or hold
                         ▲  │
                     load│  │store: when a pace changes or a figure crosses a step, else once a minute
                         │  ▼
                     social.usage      what other relays saw, and what outlives this one

Asking costs no query, and the table is no hot row: it is written a few times a minute at the most for an account.

An account is one relay's at a time, the app is everybody's: its newest figure comes with every look at a variant too,
and each of N relays spreads its calls N times as far.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import LiteralString

import anyio
import psycopg
import structlog
from anyio.abc import TaskStatus
from psycopg_pool import PoolClosed, PoolTimeout

from outbox.event import EventId
from outbox.outcome import Defer, Hold, Reason
from publisher.usage import APP, HOUR, Pace, Usage, pause_seconds, read_usage
from publisher.variants import Connections

EVERY_SECONDS = 15.0
STORE_SECONDS = 60.0
STEP_PERCENT = 10
TURN_SECONDS_MAX = 900.0
"""Nobody waits longer for a turn before the figures are asked again: they may have fallen."""

log = structlog.get_logger()

LOAD: LiteralString = """
select subject, percent, extract(epoch from clock_timestamp() - read_at)::float8 as age_seconds,
  greatest(0, extract(epoch from held_until - read_at))::float8 as regain_seconds,
  (select count(*) from outbox.relays where retired_at is null and leased_until > clock_timestamp()) as relay_count
from social.usage
where read_at > clock_timestamp() - interval '1 day'
"""

STORE: LiteralString = """
insert into social.usage as u (subject, percent, held_until, read_at)
select s.subject, s.percent, s.read_at + nullif(s.regain_seconds, 0) * interval '1 second', s.read_at
from (
  select t.subject, t.percent, t.regain_seconds, clock_timestamp() - t.age_seconds * interval '1 second' as read_at
  from unnest(%(subjects)s::text[], %(percents)s::integer[], %(regains)s::float8[], %(ages)s::float8[])
    as t (subject, percent, regain_seconds, age_seconds)
) as s
order by s.subject
on conflict (subject) do update
set percent = excluded.percent, held_until = excluded.held_until, read_at = excluded.read_at
where u.read_at is null or u.read_at < excluded.read_at
"""


@dataclass(slots=True)
class Reading:
    """The newest that is known of one subject.

    Attributes:
        usage: What was said.
        read_at: When, by this process's monotonic clock.
        limit_seconds: How long it holds where no time is stated.
        stored: What the table says, as far as we know.
        stored_at: Since when it says so.
    """

    usage: Usage
    read_at: float
    limit_seconds: float
    stored: Usage | None = None
    stored_at: float = 0.0

    def pace(self, now: float) -> Pace:
        """What holds now: figures are good for an hour, a hold ends when it ends."""
        pace = self.usage.pace
        if pace is Pace.HELD:
            return Pace.HELD if self.hold_seconds(now) > 0 else Pace.OK
        return pace if now - self.read_at < HOUR else Pace.OK

    def hold_seconds(self, now: float) -> float:
        """How long the hold still lasts."""
        return max(0.0, self.read_at + self.usage.hold_seconds(self.limit_seconds) - now)

    def is_due(self, now: float) -> bool:
        """Whether the table should be told."""
        if self.stored is None:
            return True
        if self.usage is self.stored or self.usage == self.stored:
            return False
        crossed = self.usage.percent // STEP_PERCENT != self.stored.percent // STEP_PERCENT
        return crossed or self.usage.pace is not self.stored.pace or now - self.stored_at > STORE_SECONDS


@dataclass(slots=True)
class Line:
    """The turns of one subject whose calls are spread: each event has one, in the order in which they asked."""

    next_at: float = 0.0
    turns: dict[EventId, float] = field(default_factory=dict)

    def wait_seconds(self, event_id: EventId, now: float, pause: float) -> float:
        """Return 0 when the event's turn has come, else how long it takes; the turn is the event's until it goes."""
        at = self.turns.get(event_id)
        if at is None:
            self._forget_before(now - TURN_SECONDS_MAX)
            at = self.turns[event_id] = max(now, self.next_at)
            self.next_at = at + pause
        return max(0.0, at - now)

    def went(self, event_id: EventId) -> None:
        """Take note that an event has used its turn."""
        self.turns.pop(event_id, None)

    def _forget_before(self, instant: float) -> None:
        """Drop turns that nobody came back for: events that were cancelled, or went to another relay."""
        while self.turns and next(iter(self.turns.values())) < instant:
            del self.turns[next(iter(self.turns))]


@dataclass(slots=True)
class Meter:
    """Knows how near the accounts are to their limits.

    Attributes:
        connections: Where the table is.
        slow_seconds: The first and the longest pause between the turns of an account whose calls are spread.
        limit_seconds: How long an account at its limit pauses where Meta states no time.
        clock: Monotonic.
    """

    connections: Connections
    slow_seconds: tuple[float, float]
    limit_seconds: float = HOUR
    clock: Callable[[], float] = time.monotonic
    _readings: dict[str, Reading] = field(default_factory=dict)
    _lines: dict[str, Line] = field(default_factory=dict)
    _has_news: anyio.Event = field(default_factory=anyio.Event)
    _relay_count: int = 1

    def note(self, account: str, headers: Mapping[str, str]) -> None:
        """Take in what the headers of an answer to an account's call say."""
        now = self.clock()
        for subject, usage in read_usage(headers, account).items():
            reading = self._readings.get(subject)
            if reading is None:
                reading = self._readings[subject] = Reading(usage, now, self.limit_seconds)
            elif usage.pace is not Pace.OK and usage.regain_seconds == 0 and reading.hold_seconds(now) > 0:
                # An answer without a time to wait does not shorten one that was stated; only a low figure ends it.
                continue
            else:
                reading.usage, reading.read_at = usage, now
            if reading.is_due(now):
                self._has_news.set()

    def admit(self, account: str, event_id: EventId) -> Hold | Defer | None:
        """Tell whether an event of the account may make calls now; what it returns costs no attempt."""
        if (hold := self.hold(account)) is not None:
            return hold
        now = self.clock()
        waits = [self._wait_seconds(subject, event_id, now) for subject in (APP, account)]
        longest = min(max(waits), TURN_SECONDS_MAX)
        if longest > 0:
            return Defer(longest, Reason.RATE_LIMITED)
        for subject in (APP, account):
            if (line := self._lines.get(subject)) is not None:
                line.went(event_id)
        return None

    def hold(self, account: str) -> Hold | None:
        """Tell whether the app or an account makes no calls now."""
        now = self.clock()
        for subject in (APP, account):
            reading = self._readings.get(subject)
            if reading is not None and reading.pace(now) is Pace.HELD:
                return _hold(subject, reading, now)
        return None

    def hear_of_app(self, percent: int, age_seconds: float, regain_seconds: float) -> None:
        """Take in what another relay stored of the app, if that is newer than what is known here."""
        now = self.clock()
        self._take(APP, Usage(percent, regain_seconds), now - age_seconds, now)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Share the figures until cancelled; while the database is away they stay in memory."""
        is_first = True
        while True:
            try:
                await self.share()
            except (psycopg.Error, PoolTimeout, PoolClosed) as error:
                log.debug("usage.unshared", error=str(error))
            if is_first:
                task_status.started()
                is_first = False
            self._has_news = anyio.Event()
            with anyio.move_on_after(EVERY_SECONDS):
                await self._has_news.wait()
                await anyio.sleep(1)  # one write for what comes in a burst

    async def share(self) -> None:
        """Write what is news, and read what others wrote."""
        now = self.clock()
        due = {subject: reading for subject, reading in self._readings.items() if reading.is_due(now)}
        async with self.connections.connection() as connection:
            if due:
                usages = [reading.usage for reading in due.values()]
                arguments = {
                    "subjects": list(due),
                    "percents": [usage.percent for usage in usages],
                    "regains": [usage.regain_seconds for usage in usages],
                    "ages": [now - reading.read_at for reading in due.values()],
                }
                await connection.execute(STORE, arguments)
                for reading, usage in zip(due.values(), usages, strict=True):
                    reading.stored, reading.stored_at = usage, now
            rows = await (await connection.execute(LOAD)).fetchall()
        now = self.clock()
        for subject, percent, age_seconds, regain_seconds, relay_count in rows:
            self._relay_count = max(relay_count, 1)
            self._take(subject, Usage(percent, regain_seconds), now - age_seconds, now)

    def _take(self, subject: str, usage: Usage, read_at: float, now: float) -> None:
        reading = self._readings.get(subject)
        if reading is None:
            self._readings[subject] = Reading(usage, read_at, self.limit_seconds, usage, now)
        elif read_at > reading.read_at + 0.5:
            reading.usage, reading.read_at, reading.stored, reading.stored_at = usage, read_at, usage, now

    def _wait_seconds(self, subject: str, event_id: EventId, now: float) -> float:
        reading = self._readings.get(subject)
        if reading is None or reading.pace(now) is not Pace.SLOW:
            self._lines.pop(subject, None)
            return 0.0
        line = self._lines.setdefault(subject, Line())
        pause = pause_seconds(reading.usage.percent, self.slow_seconds)
        return line.wait_seconds(event_id, now, pause * self._relay_count if subject == APP else pause)


def _hold(subject: str, reading: Reading, now: float) -> Hold:
    seconds = reading.hold_seconds(now)
    who = "the app" if subject == APP else subject
    stated = "Meta says when calls are taken again" if reading.usage.regain_seconds else "it pauses before Meta refuses"
    error = f"{who} has used {reading.usage.percent} % of its calls: {stated}"
    context = {"subject": subject, "percent": reading.usage.percent}
    return Hold(seconds, "rate_limited", error, scope="app" if subject == APP else "key", context=context)
