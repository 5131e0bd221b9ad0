"""Keeps the state file: one sandbox's alone, whole at every instant."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import anyio

from publisher.sandbox.clock import Clock
from publisher.sandbox.errors import SandboxError
from publisher.sandbox.state import encode
from publisher.sandbox.world import World

SAVE_SECONDS: Final = 1.0
# A save of a large world holds the loop: it may take this part of the time.
QUIET_TIMES: Final = 20
_logger = logging.getLogger(__name__)


class Saver:
    """Saves when something may have changed, about once a second; a large world less often than a small one."""

    def __init__(self, path: Path, world: World, clock: Clock, is_busy: Callable[[], bool]) -> None:
        self._path = path
        self._world = world
        self._clock = clock
        self._is_busy = is_busy
        self._is_touched = False

    def touch(self) -> None:
        """Say that something may have changed."""
        self._is_touched = True

    async def run(self) -> None:
        """Save until cancelled; what can't be saved is logged, and tried again."""
        while True:
            started_at = time.monotonic()
            if self._is_touched or self._is_busy():
                self._is_touched = False
                content = encode(self._world, self._clock)
                try:
                    await anyio.to_thread.run_sync(write, self._path, content)
                except SandboxError as failed:
                    self._is_touched = True
                    _logger.error("state.not_saved: %s", failed)  # a sentence says it all
            took_seconds = time.monotonic() - started_at
            await anyio.sleep(max(SAVE_SECONDS, took_seconds * QUIET_TIMES))

    def save(self) -> None:
        """Save now."""
        write(self._path, encode(self._world, self._clock))


def write(path: Path, content: bytes) -> None:
    """Replace the file; whatever happens meanwhile, it is whole.

    Raises:
        SandboxError: it can't be written.
    """
    beside = path.with_name(f"{path.name}.new")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as failed:
        raise SandboxError(
            f"Expected to write the state to {path}, found that it can't be ({failed.strerror}): choose another file."
        ) from failed


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Keep the file to this sandbox until the block ends.

    Raises:
        SandboxError: another one has it, or there is no such folder.
    """
    try:
        with path.with_name(f"{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError as taken:
        raise SandboxError(
            f"Expected {path} to be this sandbox's alone, found another one that uses it: stop that one."
        ) from taken
    except FileNotFoundError as missing:
        raise SandboxError(
            f"Expected a folder for the state file {path}, found none: make it, or choose another file."
        ) from missing
