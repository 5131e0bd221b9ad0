"""A relay that can't be cancelled ends its process, in one line; one that was only stopped does not."""

from __future__ import annotations

from functools import partial
from subprocess import Popen
from typing import LiteralString

import anyio.to_thread
import pytest
from psycopg import AsyncConnection

from relay.watchdog import EXIT_STATUS, Silence
from tests.processes import program, read_line
from tests.relay.running import emit

LONG_SECONDS = 120.0

RELAY = """
import sys, time
from contextlib import asynccontextmanager
import anyio
from pydantic import SecretStr
from outbox.outcome import Published
from relay import app, logs
from relay.settings import RelaySettings

@asynccontextmanager
async def open_handler(runtime):
    async def handle(event, ledger):
        print("handling", flush=True)
        if event.payload["name"] == "blocks":
            time.sleep(3600)
        while event.payload["name"] == "swallows":
            try:
                await anyio.sleep(0.1)
            except BaseException:
                time.sleep(0.1)
        return Published()
    yield handle

app.installed_factories = lambda: {"t": open_handler}
sys.stderr = sys.stdout
logs.configure("json", "error")
settings = {"dsn": SecretStr(sys.stdin.readline().strip()), "metrics_port": 0, "lease_seconds": 2}
anyio.run(app.run, RelaySettings.model_validate(settings))
"""

RETIRE: LiteralString = "update outbox.relays set retired_at = clock_timestamp() where retired_at is null"


def heard(looks: list[tuple[float, int]]) -> list[bool]:
    """Whether a silence of 10 s was too long at each look."""
    silence = Silence(10)
    return [silence.is_too_long(now, beats) for now, beats in looks]


def test_a_silence_is_too_long_when_it_was_listened_to() -> None:
    """Second by second."""
    assert heard([(100 + second, 7) for second in range(12)]) == [False] * 10 + [True] * 2


def test_a_beat_ends_a_silence() -> None:
    """However late it is."""
    assert not any(heard([(100 + second, second // 9) for second in range(40)]))


def test_a_process_that_was_stopped_has_missed_nothing() -> None:
    """An hour between two looks is as long as two of them."""
    assert not any(heard([(100, 7), (101, 7), (3700, 7), (3701, 7), (3702, 8)]))


async def end_of(process: Popen[str]) -> tuple[int, str]:
    """How a process ended, and what it printed."""
    output, _ = await anyio.to_thread.run_sync(partial(process.communicate, timeout=LONG_SECONDS))
    return process.returncode, output


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "told"),
    [("blocks", "the event loop stands still"), ("swallows", "its lease is over, and its work does not end")],
)
async def test_a_relay_that_hangs_ends(database: str, name: str, told: str) -> None:
    """Its lease has ended, others may have its lanes, and no cancellation reaches its handler."""
    async with await AsyncConnection.connect(database, autocommit=True) as store:
        with program(RELAY) as process:
            assert process.stdin is not None
            process.stdin.write(f"{database}\n")
            process.stdin.flush()
            await emit(store, name)
            assert await anyio.to_thread.run_sync(read_line, process) == "handling"
            await store.execute(RETIRE)
            status, output = await end_of(process)
    assert status == EXIT_STATUS
    [line] = [line for line in output.splitlines() if "relay.hung" in line]
    assert told in line
    assert (" handle" in line) == (name == "blocks")  # it says which function blocks the loop
