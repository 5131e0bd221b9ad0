"""Runs of the demo in processes of their own, each with a temporary directory that shows what it left behind."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = "from relay.demo import main; raise SystemExit(main(once=True))"
END_SECONDS = 300.0

# What a person may have exported for a relay of theirs: the demo has settings of its own.
DISTURBING = {
    "OUTBOX_DSN": "postgresql://nobody@192.0.2.1/nothing",
    "OUTBOX_METRICS_PORT": "no number",
    "PUBLISHER_GRAPH_URL": "http://192.0.2.1",
    "PUBLISHER_IMAGE_POLL_SECONDS": "not json",
    "SANDBOX_PORT": "1",
}


@dataclass(slots=True)
class Run:
    """A run without a terminal.

    Attributes:
        process: The demo's.
        directory: Its temporary directory.
        lines: What it has printed so far, as far as it was read.
    """

    process: subprocess.Popen[str]
    directory: Path
    lines: list[str] = field(default_factory=list)

    def read_until(self, pattern: str) -> None:
        """Read on to the first line in which a pattern is found."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if re.search(pattern, line):
                return
        raise AssertionError(f"expected a line with {pattern!r}, found {''.join(self.lines)}")

    def finish(self) -> tuple[int, str, str]:
        """Wait for the end; return the exit status and all that was printed to stdout and stderr."""
        out, error = self.process.communicate()
        return self.process.returncode, "".join(self.lines) + out, error


@contextlib.contextmanager
def temporary_directory() -> Iterator[Path]:
    """Give a directory with a path short enough for sockets, which a server's own account can enter."""
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        path = Path(name).resolve()
        path.chmod(0o755)
        yield path


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Run]:
    """Start the demo, and kill it at the end of the block, or when it takes too long."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **DISTURBING, "TMPDIR": str(directory)},
    ) as process:
        patience = threading.Timer(END_SECONDS, process.kill)
        patience.start()
        try:
            yield Run(process, directory)
        finally:
            patience.cancel()
            process.kill()


def server_pid(directory: Path) -> int:
    """Return the process of the PostgreSQL server that runs in a temporary directory."""
    (file,) = directory.glob("*/cluster/data/postmaster.pid")
    return int(file.read_text(encoding="ascii").split("\n", 1)[0])


def ends(pid: int, *, within_seconds: float = 60) -> bool:
    """Tell whether a process that is not ours ends."""
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False
