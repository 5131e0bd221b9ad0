"""Starts a relay in a process of its own, so that its CPU is its own."""

from __future__ import annotations

import contextlib
import os
import queue
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import IO, Any, Final

import orjson

from outbox.errors import OutboxError
from relay.bench.progress import Tell
from relay.redaction import redact

EVENT_TYPE: Final = "bench"
SLOW_EVENT_TYPE: Final = "bench_slow"
"""Its handler takes 50 ms, and is not counted."""

CONCURRENCY: Final = 200

CALL: Final = struct.Struct("<qd")
"""A call of the handler: the event, and when, in seconds of the epoch."""

STALL_SECONDS: Final = 60.0
"""A relay that tells nothing new for so long has failed."""

OURS: Final = ("OUTBOX_", "PUBLISHER_", "SANDBOX_")
"""What begins so in the environment is for other relays than the one that is measured."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a relay under measurement is to do.

    Attributes:
        dsn: Its database.
        count: It tells what it cost when so many events have a receipt; None: when it is stopped.
        notes_dispatches: Whether it notes when each event was dispatched.
        concurrency: Its handlers.
        lease_seconds: Its lease; None is the default.
        calls: A file to which each call of the handler is appended as it begins: what a killed relay did is there too.
        event_type: Whose handler runs: `bench` does nothing, any other is found among those that are installed.
        is_traced: Whether it sends spans where the OTEL_* variables say; it tells what it cost when all are sent.
    """

    dsn: str = field(repr=False)
    count: int | None = None
    notes_dispatches: bool = False
    concurrency: int = CONCURRENCY
    event_type: str = EVENT_TYPE
    lease_seconds: float | None = None
    calls: str | None = None
    is_traced: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """Where everything stood at one moment.

    Attributes:
        at: By `time.monotonic()`.
        cpu_seconds: CPU of the process so far.
        wal_bytes: WAL of the cluster so far.
        memory_bytes: The most memory that the process has had.
    """

    at: float
    cpu_seconds: float
    wal_bytes: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Work:
    """What a relay did, from its first dispatch to its last receipt."""

    count: int
    started_at: float
    began: Mark
    ended: Mark

    @property
    def start_seconds(self) -> float:
        """From the process's start, its imports excepted, to its first dispatch: it joins and lists the window."""
        return self.began.at - self.started_at

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended.at - self.began.at

    @property
    def cpu_microseconds(self) -> float:
        """CPU of the relay's process, an event."""
        return (self.ended.cpu_seconds - self.began.cpu_seconds) / self.count * 1e6

    @property
    def memory_bytes(self) -> int:
        """The most memory that the relay's process has had."""
        return self.ended.memory_bytes

    @property
    def wal_bytes(self) -> float:
        """WAL of the cluster, an event."""
        return (self.ended.wal_bytes - self.began.wal_bytes) / self.count


@contextmanager
def running(order: Order, settings: Mapping[str, str] | None = None) -> Iterator[RelayProcess]:
    """Run a relay until the end of the block; it is killed there unless it was stopped.

    Args:
        order: What it is to do.
        settings: Its handler's, as environment variables.
    """
    # The order goes by stdin: an address may hold a password, and arguments are everybody's to read.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    environment = {**inherited, **(settings or {})}
    with (
        tempfile.TemporaryFile("w+b") as errors,
        subprocess.Popen(
            # -P: a folder that one happens to stand in may hold other modules of our names.
            [sys.executable, "-P", "-m", "relay.bench.relay_program"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            start_new_session=True,  # a Ctrl-C in the terminal is for us alone
        ) as process,
    ):
        try:
            yield RelayProcess(process, errors, order)
        finally:
            process.kill()
            process.wait()


class RelayProcess:
    """A relay under measurement; `running` makes it. All its methods raise OutboxError where it has failed."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes], order: Order) -> None:
        assert process.stdin is not None
        self._process = process
        self._errors = errors
        self._count = order.count
        self._reports: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._work: Work | None = None
        threading.Thread(target=self._listen, name="bench-relay", daemon=True).start()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(orjson.dumps(asdict(order)) + b"\n")
            process.stdin.flush()

    def await_ready(self) -> None:
        """Wait until it owns its lanes and hears the doorbell."""
        while self._next()["what"] != "ready":
            pass

    def await_work(self, tell: Tell) -> Work:
        """Wait until all events that were ordered have a receipt."""
        said, said_at = -1, time.monotonic()
        while self._work is None:
            report = self._next()
            count = int(report.get("count", 0))
            if count != said:
                said_at = time.monotonic()
            elif time.monotonic() - said_at > STALL_SECONDS:
                raise OutboxError(f"expected the relay to go on, found that it dispatched {count} events and no more")
            said = count
            tell("settled", count, self._count or count)
        return self._work

    def stop(self) -> dict[int, float]:
        """Stop it in order, and return when each event was dispatched, by `time.monotonic()`, where that was noted."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        while True:
            report = self._next()
            if report["what"] == "ended":
                self._process.wait()
                return dict(report["dispatches"])

    def kill(self) -> None:
        """Kill it, without a chance to tidy up."""
        self._process.kill()
        self._process.wait()

    @property
    def lives(self) -> bool:
        """Whether its process runs."""
        return self._process.poll() is None

    @property
    def work(self) -> Work:
        """What it did, once that is known."""
        assert self._work is not None
        return self._work

    def _next(self) -> dict[str, Any]:
        try:
            report = self._reports.get(timeout=STALL_SECONDS)
        except queue.Empty:
            raise OutboxError(f"expected the relay to answer within {STALL_SECONDS:g} s, found it silent") from None
        if report is None:
            raise OutboxError(f"expected the relay to run, found that it ended: {self._last_words()}")
        if report["what"] == "done":
            self._work = Work(report["count"], report["started_at"], Mark(**report["began"]), Mark(**report["ended"]))
        return report

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._reports.put(orjson.loads(line))
        self._reports.put(None)

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        return redact(next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing"))
