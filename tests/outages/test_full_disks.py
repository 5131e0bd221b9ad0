"""A disk that is full for real: a small file system of the cluster's own, and a file that takes what is left of it.

PostgreSQL refuses rows, or dies over its own log; when there is room again all goes on, nothing is lost or doubled.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, LiteralString

import anyio
import anyio.to_thread
import psycopg
import pytest
from structlog.testing import capture_logs

from schema.embedded import EmbeddedPostgres
from schema.migrate import migrate
from tests.outages.test_outages import LONG_SECONDS, Told, connected, down, emit_all, ended_once, steady
from tests.postgres import SETTINGS, bindir
from tests.relay.running import Gate, Script, eventually, ready, rows, settings, value

pytestmark = pytest.mark.anyio

DISK_BYTES: Final = 256 << 20
NO_SPACE: Final = "No space left on device"
WAL: Final = {"min_wal_size": "32MB", "max_wal_size": "64MB"}
NEW_SEGMENT: LiteralString = "select pg_switch_wal(), pg_logical_emit_message(false, 'test', 'the first of it')"
A_MEGABYTE: LiteralString = "select pg_logical_emit_message(true, 'test', repeat('x', 1000000))"
A_CLUSTERS_WAL: Final = 100
"""Megabytes: more than `max_wal_size`."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0755", "tmpfs", str(folder)]
    try:
        answer = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("expected the program mount, found none; run on Linux")
    if answer.returncode != 0:
        pytest.skip(f"expected to mount a file system, found: {answer.stderr.strip()}; run as root")
    for above in (tmp_path, *tmp_path.parents[:2]):
        above.chmod(0o755)  # the server runs as nobody
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def server(disk: Path) -> Iterator[EmbeddedPostgres]:
    """A server whose cluster, and its log, are on that disk."""
    with EmbeddedPostgres.start(
        directory=disk / "cluster", settings={**SETTINGS, **WAL, "fsync": "on"}, bindir=bindir()
    ) as server:
        yield server


def fill(disk: Path, *, left_bytes: int = 0) -> Path:
    """Take all that is left of a disk, but for so many bytes, and return the file that has it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
        file.truncate(file.tell() - left_bytes)
    return filler


def panics(server: EmbeddedPostgres) -> list[str]:
    """What the server said when it died of a full disk."""
    said = (server.directory / "log").read_text(encoding="utf-8", errors="replace")
    return [line for line in said.splitlines() if "PANIC" in line and NO_SPACE in line]


async def back(server: EmbeddedPostgres, url: str) -> bool:
    """Tell whether the relay works again; start the server where it panicked and found no room to recover either."""
    if server.pid is None:
        await anyio.to_thread.run_sync(server.restart)
    return await ready(url)


async def write_wal(dsn: str) -> None:
    """Write more of it than there is room for in the segments that are there."""
    async with connected(dsn) as store:
        for _ in range(A_CLUSTERS_WAL):
            await store.execute(A_MEGABYTE)


async def test_no_room_for_rows(server: EmbeddedPostgres, disk: Path, script: Script) -> None:
    """A table can't grow: the relay says it once, begins again and again, and ends what it had when there is room."""
    dsn = server.create_database("app")
    migrate(dsn)
    names = [f"{number:03}" for number in range(600)]
    gate = Gate()
    script.acts |= {name: [gate] for name in names[:3]}
    with capture_logs() as logs:
        async with steady(settings(dsn), script) as url:
            await emit_all(dsn, names)
            await gate.entered.wait()
            async with connected(dsn) as store:
                await store.execute(NEW_SEGMENT)
            filler = fill(disk)
            gate.opened.set()
            await eventually(lambda: down(url), seconds=LONG_SECONDS)
            filler.unlink()
            await eventually(lambda: back(server, url), seconds=LONG_SECONDS)
            await ended_once(dsn, script, names)
    told = [line["error"] for line in logs if line["event"] == "incarnation.ended"]
    assert panics(server) or any(NO_SPACE in sentence for sentence in told)
    assert set(Told(logs).warnings) == {"incarnation.ended"}


async def test_no_room_for_the_log_of_postgresql(server: EmbeddedPostgres, disk: Path, script: Script) -> None:
    """It panics, and is started again once there is room; the relay, left alone, ends what it had."""
    dsn = server.create_database("app")
    migrate(dsn)
    names = [f"{number:03}" for number in range(60)]
    gate = Gate()
    script.acts |= {name: [gate] for name in names[30:33]}
    with capture_logs() as logs:
        async with steady(settings(dsn), script) as url:
            await emit_all(dsn, names)
            await gate.entered.wait()
            filler = fill(disk, left_bytes=1 << 20)  # room for what the server has to say, and for no segment
            with pytest.raises(psycopg.OperationalError):
                await write_wal(dsn)
            gate.opened.set()
            await eventually(lambda: down(url), seconds=LONG_SECONDS)
            filler.unlink()
            await anyio.to_thread.run_sync(server.restart)
            await ended_once(dsn, script, names)
            await eventually(lambda: ready(url), seconds=LONG_SECONDS)
            async with connected(dsn) as store:
                assert await rows(store, "select outcome, count(*) from outbox.receipts group by 1") == [
                    ("published", len(names))
                ]
                assert await value(store, "select count(distinct event_id) from outbox.receipts") == len(names)
    assert panics(server)
    assert set(Told(logs).warnings) == {"incarnation.ended"}
