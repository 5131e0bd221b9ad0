"""Where the real handler plays: a real database, the sandbox, a media server, and a driver that honours outcomes."""

from __future__ import annotations

import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import orjson
from aiohttp import web
from PIL import Image
from prometheus_client import CollectorRegistry
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool
from pydantic import SecretStr

from outbox.event import Event, EventId
from outbox.handler import Handler, Runtime
from outbox.ledger import Ledger, Step, StepState
from outbox.outcome import Cancelled, Dead, Defer, Expired, Hold, Outcome, Published, Retry, Unknown
from outbox.resolution import Resolution
from publisher.accounts import add_account
from publisher.handler import open_handler_with
from publisher.sandbox.server import serve
from publisher.sandbox.settings import SandboxSettings
from publisher.settings import PublisherSettings
from publisher.tokens import KeyRing, generate_key
from tests.publisher.kinds import KIND, NAMES_OF_STORIES
from tests.sandbox.client import Client, Owner

VIDEO = Path(__file__).parents[1] / "sandbox" / "media" / "story.mp4"
RELAY_ID = 1
PLAY_SECONDS_MAX = 60.0
DELAY_SECONDS_MAX = 30.0

KINDS = NAMES_OF_STORIES
PUBLISHING = {name: kind.publishing for name, kind in KIND.items()}
PREPARING = {name: kind.calls[0] for name, kind in KIND.items()}

LOAD_EVENT = """
select id, lane, key, sequence, type, payload, headers, publish_at, expires_at, replay_of, created_at
from outbox.events where id = %s
"""
LOAD_STEPS = """
select position, name, state, detail, fingerprint, created_at from outbox.steps where event_id = %s order by position
"""
WRITE_STEP = """
insert into outbox.steps (event_id, position, name, state, fingerprint, detail, relay_id)
values (%s, %s, %s, %s, %s, %s, %s) returning created_at
"""
WRITE_ATTEMPT = "insert into outbox.attempts (event_id, reason, error, context, relay_id) values (%s, %s, %s, %s, %s)"
NEWEST_EVENT = "select max(id) from outbox.events"


class Crash(BaseException):
    """The process ends here."""


@dataclass(slots=True)
class CrashAt:
    """Ends the process at its nth write of a step, once: before the row is durable, or right after."""

    write: int
    durable: bool
    count: int = 0

    @property
    def happened(self) -> bool:
        """Whether there were so many writes."""
        return self.count >= self.write


@dataclass(slots=True)
class Play:
    """What happened to one event: every outcome in order, the last one included."""

    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def end(self) -> Outcome:
        """The last outcome."""
        return self.outcomes[-1]


@dataclass(slots=True)
class Stage:
    """The world around one handler."""

    dsn: str
    connections: AsyncConnectionPool[AsyncConnection[TupleRow]]
    graph: Client
    media_url: str
    files: dict[str, bytes]
    keys: KeyRing
    settings: PublisherSettings
    registry: CollectorRegistry
    handler: Handler
    owners: dict[str, Owner] = field(default_factory=dict)

    async def owner(self, platform: str) -> Owner:
        """Return the account of a platform, on both sides; added at the first call."""
        if platform not in self.owners:
            owner = await self.graph.owner(platform)
            async with self.connections.connection() as connection:
                await add_account(
                    connection,
                    self.keys,
                    platform=platform,
                    remote_id=owner.id,
                    name="greenhouse",
                    token=SecretStr(owner.token),
                )
            self.owners[platform] = owner
        return self.owners[platform]

    async def approve(self, kind: str, file: str | None = None, name: str = "story") -> Event:
        """Create an approved variant and return the event that it emits; `file` is another medium than `name`'s."""
        of_kind = KIND[kind]
        owner = await self.owner(of_kind.platform)
        statement, arguments = of_kind.variant(f"{of_kind.platform}:{owner.id}", self.media_url, name)
        if file is not None:
            arguments["media_url"] = f"{self.media_url}/{file}"
        async with self.connections.connection() as connection:
            await connection.execute(statement, arguments)
        return await self.event((await self.rows(NEWEST_EVENT))[0][0])

    async def create(self, platform: str, **arguments: Any) -> Event:
        """Create an approved variant with these arguments of `social.create_variant`, and return its event."""
        owner = await self.owner(platform)
        given = {"account": f"{platform}:{owner.id}", **arguments}
        call = sql.SQL("select social.create_variant({})").format(
            sql.SQL(", ").join(sql.SQL("{} => {}").format(sql.Identifier(name), value) for name, value in given.items())
        )
        async with self.connections.connection() as connection:
            await connection.execute(call)
        return await self.event((await self.rows(NEWEST_EVENT))[0][0])

    async def event(self, event_id: int) -> Event:
        """Load an event."""
        return Event(*(await self.rows(LOAD_EVENT, event_id))[0])

    async def steps(self, event: Event) -> list[Step]:
        """Load the durable steps of an event, as a new process would."""
        rows = await self.rows(LOAD_STEPS, event.id)
        return [Step(r[0], r[1], StepState(r[2]), r[3], r[4], r[5]) for r in rows]

    async def trail(self, event: Event) -> list[str]:
        """Return an event's steps as `name state`."""
        return [f"{step.name} {step.state}" for step in await self.steps(event)]

    async def dispatch(
        self, event: Event, *, crash: CrashAt | None = None, attempts: int = 0, deferrals: int = 0
    ) -> Outcome:
        """Hand the event to the handler once, with its durable steps."""
        ledger = Ledger(event, self._writer(crash), await self.steps(event), attempts, deferrals)
        return await self.handler(event, ledger)

    async def play(
        self, event: Event, *, crash: CrashAt | None = None, until: Callable[[Outcome], bool] | None = None
    ) -> Play:
        """Dispatch until the event ends, is held or waits for a person, waiting as the outcomes ask."""
        play = Play()
        deadline = time.monotonic() + PLAY_SECONDS_MAX
        attempts = deferrals = 0
        while True:
            assert time.monotonic() < deadline, play.outcomes
            try:
                outcome = await self.dispatch(event, crash=crash, attempts=attempts, deferrals=deferrals)
            except Crash:
                continue
            play.outcomes.append(outcome)
            await self._record(event.id, outcome)
            if until is not None and until(outcome):
                return play
            match outcome:
                case Published() | Dead() | Expired() | Cancelled() | Hold() | Unknown(delay_seconds=None):
                    return play
                case Retry():
                    attempts += 1
                    assert attempts < 20, play.outcomes
                case Defer(delay_seconds=delay) | Unknown(delay_seconds=float(delay)):
                    deferrals += 1
                    assert delay < DELAY_SECONDS_MAX, play.outcomes
                    await anyio.sleep(delay)

    async def decide(self, event: Event, resolution: Resolution) -> None:
        """Make the step that a relay makes of a person's word."""
        ledger = Ledger(event, self._writer(None), await self.steps(event))
        assert resolution.applies_to(ledger.steps)
        write = ledger.done if resolution.published else ledger.refused
        await write(resolution.name, resolution.detail)

    async def live_count(self) -> int:
        """Return how many stories are really live."""
        return await self.graph.live_count()

    async def rows(self, statement: str, *arguments: Any) -> list[TupleRow]:
        """Return the rows of a query."""
        async with self.connections.connection() as connection:
            return await (await connection.execute(statement.encode(), arguments)).fetchall()

    async def execute(self, statement: str, *arguments: Any) -> None:
        """Run a statement."""
        async with self.connections.connection() as connection:
            await connection.execute(statement.encode(), arguments)

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric's value."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def _writer(self, crash: CrashAt | None) -> Callable[[Event, Step, float | None], Any]:
        async def write(event: Event, step: Step, call_seconds: float | None) -> datetime:
            assert (call_seconds is not None) == (step.state is StepState.INTENT)
            ends_here = False
            if crash is not None:
                crash.count += 1
                ends_here = crash.count == crash.write
                if ends_here and not crash.durable:
                    raise Crash
            arguments = (
                event.id,
                step.position,
                step.name,
                step.state.value,
                step.fingerprint,
                orjson.dumps(step.detail).decode(),
                RELAY_ID,
            )
            created_at: datetime = (await self.rows(WRITE_STEP, *arguments))[0][0]
            if ends_here:
                raise Crash
            return created_at

        return write

    async def _record(self, event_id: EventId, outcome: Outcome) -> None:
        """Keep what the relay keeps of a try in `outbox.attempts`."""
        match outcome:
            case Retry(error=error, context=context):
                reason = "retry"
            case Defer(error=str(error), reason=reason, context=context):
                pass
            case Hold(error=error, context=context):
                reason = "held"
            case Unknown(error=error, context=context):
                reason = "unknown"
            case _:
                return
        kept = None if context is None else orjson.dumps(context).decode()
        await self.execute(WRITE_ATTEMPT, event_id, str(reason), error, kept, RELAY_ID)


def quick(**changes: Any) -> PublisherSettings:
    """Return settings whose waits are fractions of a second; what is under way has the time of a busy machine."""
    values: dict[str, Any] = {
        "image_poll_seconds": (0.01, 0.02),
        "video_poll_seconds": (0.01, 0.02),
        "refused_wait_seconds": (0.01, 0.02),
        "outage_seconds": (0.01, 0.02),
        "unreadable_seconds": 0.1,
        "read_seconds": 20,
        "create_seconds": 20,
        "publish_seconds": 20,
        "intent_seconds": 10,
        "reconcile_seconds": 0.15,
        "list_lag_seconds": 0.15,
        "reconcile_seconds_max": 0.3,
        "gone_seconds": 0.5,
        "variant_retry_delay_seconds": 0.01,
        "private_media": True,
    }
    return PublisherSettings(**(values | changes))


@asynccontextmanager
async def open_stage(dsn: str, settings: PublisherSettings | None = None) -> AsyncIterator[Stage]:
    """Open the whole stage; the sandbox takes no time for images and a little for videos."""
    key = generate_key()
    sandbox_settings = SandboxSettings(
        port=0, image_seconds=(0, 0), video_seconds=(0.02, 0.02), media_timeout_seconds=20
    )
    files = {
        "story.jpg": picture(),
        "story.mp4": VIDEO.read_bytes(),
        "text.jpg": b"no picture",
        "text.mp4": b"no video",
    }
    pool = AsyncConnectionPool[AsyncConnection[TupleRow]](
        dsn, min_size=1, max_size=4, open=False, kwargs={"autocommit": True}
    )
    async with (
        serve(sandbox_settings) as sandbox,
        serve_files(files) as media_url,
        aiohttp.ClientSession() as session,
        pool,
    ):
        merged = (settings or quick()).model_copy(update={"graph_url": sandbox.url, "token_keys": SecretStr(key)})
        registry = CollectorRegistry()
        async with open_handler_with(Runtime(pool, registry), merged) as handler:
            yield Stage(
                dsn=dsn,
                connections=pool,
                graph=Client(sandbox.url, session),
                media_url=media_url,
                files=files,
                keys=KeyRing(key),
                settings=merged,
                registry=registry,
                handler=handler,
            )


async def is_found_once_listed(database: str, kind: str) -> bool:
    """Lose the answer of a call and look before any list shows the post, then again; tell whether it was found.

    A look that finds nothing counts after an hour: by the clock of the sandbox the list has caught up before.
    """
    late = quick(reconcile_seconds=3600, list_lag_seconds=3600, reconcile_seconds_max=3600)
    async with open_stage(database, late) as stage:
        await stage.graph.use(republish="duplicate", stories_lag_seconds=1800, feed_lag_seconds=1800)
        await stage.graph.fault(PUBLISHING[kind], "apply_then_drop")
        event = await stage.approve(kind)
        await stage.play(event, until=lambda outcome: isinstance(outcome, Unknown))
        look = await stage.play(event, until=lambda _: True)
        if isinstance(look.end, Unknown):
            await stage.graph.advance(1800)
            look = await stage.play(event, until=lambda _: True)
        return isinstance(look.end, Published) and await stage.live_count() == 1


@asynccontextmanager
async def serve_files(files: dict[str, bytes]) -> AsyncIterator[str]:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        content = files.get(request.path.removeprefix("/"))
        return web.Response(status=404) if content is None else web.Response(body=content)

    async with serve_answers(answer) as url:
        yield url


@asynccontextmanager
async def serve_answers(answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """Open a host that answers by a function."""
    runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def picture() -> bytes:
    """Return a small JPEG of 4:5, which suits every placement."""
    content = io.BytesIO()
    Image.linear_gradient("L").resize((108, 135)).convert("RGB").save(content, "JPEG")
    return content.getvalue()
