"""Python programs in processes of their own, to race and to kill."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
POLL_SECONDS: Final = 0.02


@contextlib.contextmanager
def program(
    source: str, *arguments: str, prefix: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run Python source; its input and output are pipes of text, and it is killed at the end if it still runs."""
    with subprocess.Popen(
        [*prefix, sys.executable, "-c", source, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[str]) -> str:
    """The next line that a program prints; empty when it has ended."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def poll(condition: Callable[[], bool], *, seconds: float = 60) -> bool:
    """Whether a condition comes true before a deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(POLL_SECONDS)
    return condition()
