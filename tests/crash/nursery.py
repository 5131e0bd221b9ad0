"""Relay processes that start at once: forked from a process that has imported everything already.

A relay that is killed at every step boundary is started hundreds of times; importing takes ten times as long as
running. Each relay is a process of its own, killed with SIGKILL, and dies with the nursery.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import IO

ROOT = Path(__file__).resolve().parents[2]

SOURCE = """
import ctypes, json, os, signal, sys
import anyio
import publisher.handler, relay.app, relay.logs, relay.settings

def die_with_parent():
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)

die_with_parent()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    environment = json.loads(line)
    child = os.fork()
    if child == 0:
        die_with_parent()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.update(environment)
        settings = relay.settings.RelaySettings.load()
        relay.logs.configure("json", settings.log_level)
        anyio.run(relay.app.run, settings)
        os._exit(0)
    print(child, flush=True)
"""


class Nursery:
    """Starts relays and kills them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lock = Lock()
        self._alive: set[int] = set()

    def start(self, environment: Mapping[str, str]) -> int:
        """Start a relay with these environment variables and return its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(dict(environment)) + "\n")
            self._process.stdin.flush()
            pid = int(self._process.stdout.readline())
            self._alive.add(pid)
        return pid

    def kill(self, pid: int) -> None:
        """End a relay as a power cut would."""
        self._alive.discard(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def terminate(self, pid: int) -> None:
        """Ask a relay to end."""
        self._alive.discard(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)

    def stop(self, pid: int) -> None:
        """Have a relay stand still."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)

    def resume(self, pid: int) -> None:
        """Have a relay that stands still go on, as if nothing had happened."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def kill_all(self) -> None:
        """End all relays that were started here."""
        for pid in list(self._alive):
            self.kill(pid)


@contextmanager
def open_nursery(environment: Mapping[str, str] | None = None, *, stderr: IO[bytes] | None = None) -> Iterator[Nursery]:
    """Open a nursery; its relays are killed at the end.

    Args:
        environment: What goes on top of this process's environment, for the nursery and all its relays.
        stderr: Where they write what they have to say; None leaves them this process's.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OUTBOX_", "PUBLISHER_"))}
    with subprocess.Popen(
        [sys.executable, "-c", SOURCE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**inherited, **(environment or {})},
        stderr=stderr,
    ) as process:
        nursery = Nursery(process)
        try:
            yield nursery
        finally:
            nursery.kill_all()
            process.kill()
