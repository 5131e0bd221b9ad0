"""What the faults happen to: a PostgreSQL server, a sandbox, and relay processes, each behind a proxy of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import aiohttp
import anyio
import anyio.to_thread
import psycopg

from publisher.sandbox.server import serve
from publisher.sandbox.settings import SandboxSettings
from publisher.tokens import generate_key
from schema.embedded import EmbeddedPostgres, StopMode
from schema.migrate import migrate
from tests.chaos import ticks
from tests.crash.nursery import Nursery, open_nursery
from tests.postgres import SETTINGS, bindir
from tests.proxy import Proxy, open_proxy
from tests.publisher.stage import VIDEO, picture, serve_files
from tests.sandbox.client import Client

LEASE_SECONDS = 3.0
FILE_COUNT = 10_000

WITNESSES = """
create table public.handled (event_id bigint, process bigint, at timestamptz default clock_timestamp());
create table public.violations (what text, detail jsonb, at timestamptz default clock_timestamp());

create function public.witness_write() returns trigger language plpgsql as $$
begin
  if not exists (
    select from outbox.events as e join outbox.lanes as l on l.lane = e.lane
    where e.id = new.event_id and l.relay_id = new.relay_id
  ) then
    insert into public.violations (what, detail)
    values ('a write by a relay that does not own the lane', to_jsonb(new));
  end if;
  return null;
end
$$;
create trigger witness_receipt after insert on outbox.receipts for each row execute function public.witness_write();
create trigger witness_step after insert on outbox.steps for each row execute function public.witness_write();

create function public.witness_lane() returns trigger language plpgsql as $$
begin
  if old.relay_id is not null and new.relay_id is not null and old.relay_id <> new.relay_id
    and exists (select from outbox.relays as r where r.id = old.relay_id and r.retired_at is null)
  then
    insert into public.violations (what, detail) values ('a lane was taken from a living relay', to_jsonb(new));
  end if;
  return null;
end
$$;
create trigger witness_lane after update on outbox.lanes for each row execute function public.witness_lane();

grant insert on public.handled, public.violations to public;
"""
"""Kept by the database itself, in the transaction of the write that they judge."""


@dataclass(slots=True, eq=False)
class Place:
    """Where a relay process runs: its proxy to the database, and the process that is there now.

    `taken` by the fault that plays here: one at a time.
    """

    proxy: Proxy
    process: int | None = None
    taken: anyio.Lock = field(default_factory=anyio.Lock)


@dataclass(slots=True)
class Ground:
    """Everything that can fail.

    Attributes:
        server: PostgreSQL.
        dsn: The database, without a proxy.
        graph: The sandbox.
        media_url: Where `/N.jpg` and `/N.mp4` are served.
        keys: The key ring's key.
        places: Where relays run.
        nursery: Starts them.
        environment: What goes on top of their environment.
        died_count: How many relays ended by themselves, and were started anew.
    """

    server: EmbeddedPostgres
    dsn: str
    graph: Client
    media_url: str
    keys: str
    places: list[Place]
    nursery: Nursery
    environment: Mapping[str, str]
    died_count: int = 0
    _restarting: anyio.Lock = field(default_factory=anyio.Lock)

    async def start(self, place: Place) -> None:
        """Start a relay where none is."""
        environment = {**_environment(place.proxy.dsn(self.dsn), self.graph.url, self.keys), **self.environment}
        place.process = await anyio.to_thread.run_sync(self.nursery.start, environment)

    def kill(self, place: Place) -> None:
        """End a relay as a power cut would."""
        if place.process is not None:
            self.nursery.kill(place.process)
            place.process = None

    def stop(self, place: Place) -> None:
        """Ask a relay to end, as a service manager does."""
        process, place.process = place.process, None
        if process is not None:
            self.nursery.terminate(process)

    def freeze(self, place: Place) -> None:
        """Have a relay stand still."""
        if place.process is not None:
            self.nursery.stop(place.process)

    def thaw(self, place: Place) -> None:
        """Have it go on."""
        if place.process is not None:
            self.nursery.resume(place.process)

    async def restart_server(self, mode: StopMode) -> None:
        """Restart PostgreSQL."""
        async with self._restarting:
            await anyio.to_thread.run_sync(self.server.restart, mode)

    async def keep_alive(self) -> None:
        """Start the relays anew that ended by themselves, as a service manager does, until cancelled; count them."""
        while True:
            for place in self.places:
                if place.process is not None and not _is_alive(place.process):
                    self.died_count += 1
                    await self.start(place)
            await anyio.sleep(0.2)


@asynccontextmanager
async def open_ground(
    folder: Path, dice: Random, *, relay_count: int, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Ground]:
    """Open all of it; the sandbox answers a repeated publish in one of its three ways.

    Args:
        folder: For files.
        dice: What is left to chance.
        relay_count: How many relays there are.
        environment: What goes on top of the relays' environment.
    """
    ticks.install(folder)
    async with AsyncExitStack() as stack:
        server = stack.enter_context(EmbeddedPostgres.start(settings={**SETTINGS, "fsync": "on"}, bindir=bindir()))
        dsn = await anyio.to_thread.run_sync(server.create_database, "chaos")
        await anyio.to_thread.run_sync(migrate, dsn)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(WITNESSES)
        sandbox = await stack.enter_async_context(serve(_sandbox_settings(dice)))
        media_url = await stack.enter_async_context(serve_files(_files()))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        path = os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", "")))
        with (folder / "relays.log").open("wb") as relay_log:
            nursery = stack.enter_context(open_nursery({"PYTHONPATH": path}, stderr=relay_log))
        places = [Place(await stack.enter_async_context(open_proxy(dsn))) for _ in range(relay_count)]
        ground = Ground(
            server, dsn, Client(sandbox.url, session), media_url, generate_key(), places, nursery, environment or {}
        )
        for place in places:
            await ground.start(place)
        yield ground


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _files() -> dict[str, bytes]:
    image, video = picture(), VIDEO.read_bytes()
    return {f"{number}.{ending}": of for number in range(FILE_COUNT) for ending, of in (("jpg", image), ("mp4", video))}


def _sandbox_settings(dice: Random) -> SandboxSettings:
    return SandboxSettings(
        port=0,
        republish=dice.choice(("error", "same_id", "duplicate")),
        quota_total=100_000,
        container_limit=100_000,
        reel_limit=100_000,
        image_seconds=(0, 0.2),
        video_seconds=(0.1, 0.5),
    )


def _environment(dsn: str, graph_url: str, keys: str) -> dict[str, str]:
    """Return a relay's environment: everything is quick, and no event is given up for what is done to its relays."""
    return {
        "OUTBOX_DSN": dsn,
        "OUTBOX_METRICS_PORT": "0",
        "OUTBOX_LOG_FORMAT": "json",
        "OUTBOX_LOG_LEVEL": "warning",
        "OUTBOX_LEASE_SECONDS": f"{LEASE_SECONDS:g}",
        "OUTBOX_CURSOR_SECONDS": "1",
        "OUTBOX_POLL_SECONDS": "2",
        "OUTBOX_SHUTDOWN_SECONDS": "2",
        "OUTBOX_ATTEMPTS_MAX": "100",
        "OUTBOX_CRASHES_MAX": "100",
        "OUTBOX_BACKOFF_BASE_SECONDS": "0.1",
        "OUTBOX_BACKOFF_CAP_SECONDS": "0.5",
        "OUTBOX_SHORT_DEFERRAL_SECONDS": "1",
        "OUTBOX_UNKNOWN_SECONDS": "0.5",
        "OUTBOX_CONCURRENCY": "16",
        "OUTBOX_POOL_SIZE_MAX": "4",
        "PUBLISHER_GRAPH_URL": graph_url,
        "PUBLISHER_TOKEN_KEYS": keys,
        "PUBLISHER_PRIVATE_MEDIA": "true",
        "PUBLISHER_IMAGE_POLL_SECONDS": "[0.1, 0.2]",
        "PUBLISHER_VIDEO_POLL_SECONDS": "[0.1, 0.3]",
        "PUBLISHER_REFUSED_WAIT_SECONDS": "[0.1, 0.3]",
        "PUBLISHER_OUTAGE_SECONDS": "[0.1, 0.3]",
        "PUBLISHER_READ_SECONDS": "2",
        "PUBLISHER_PUBLISH_SECONDS": "1",
        "PUBLISHER_INTENT_SECONDS": "0.5",
        "PUBLISHER_ABSENCES_MAX": "20",
        "PUBLISHER_RECONCILE_SECONDS": "0.5",
        "PUBLISHER_LIST_LAG_SECONDS": "0.5",
        "PUBLISHER_RECONCILE_SECONDS_MAX": "0.5",
        "PUBLISHER_GONE_SECONDS": "2",
    }
