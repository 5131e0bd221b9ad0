"""The world in a file, so that a sandbox goes on after a restart where it stood.

    save   encode at once, on the loop -> write beside -> fsync -> rename     a reader finds the old one or the new one
    load   tokens, people, accounts -> containers, photos, videos -> posts    what refers comes after what it refers to

Saved is what Meta would remember, and how far the clock is ahead; not the faults, the requests and the settings. The
file holds tokens: only its owner can read it. A kill loses what happened since the last save, about a second.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import anyio
import orjson

from publisher.sandbox.clock import Clock
from publisher.sandbox.errors import SandboxError
from publisher.sandbox.objects import (
    Account,
    Container,
    Details,
    Made,
    MediaProblem,
    Medium,
    Photo,
    Placement,
    Platform,
    Post,
    Token,
    User,
    Video,
)
from publisher.sandbox.world import World

VERSION: Final = 1
SAVE_SECONDS: Final = 1.0
# A save of a large world holds the loop: it may take this part of the time.
QUIET_TIMES: Final = 20
_logger = logging.getLogger(__name__)
# What follows from other rows, or is a reference that is written by hand.
_LEFT_OUT: Final = frozenset({"posts", "stories", "feed"})


def encode(world: World, clock: Clock) -> bytes:
    """Return the world as JSON."""
    nodes = list(world.objects.values())
    document = {
        "version": VERSION,
        "seed": world.ids.seed,
        "dealt_count": world.ids.dealt_count,
        "ahead_seconds": clock.ahead_seconds,
        "tokens": [_row(token) for token in world.tokens.values()],
        "users": [_row(user) for user in world.users.values()],
        "accounts": [_row(account) for account in world.accounts.values()],
        "containers": [_row(node) for node in nodes if isinstance(node, Container)],
        "photos": [_row(node) for node in nodes if isinstance(node, Photo)],
        "videos": [_row(node) for node in nodes if isinstance(node, Video)],
        "posts": [_row(node) for node in nodes if isinstance(node, Post)],
    }
    return orjson.dumps(document)


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


def load(path: Path, world: World, clock: Clock) -> None:
    """Fill an empty world from a file; where there is none, it stays empty.

    Raises:
        SandboxError: the file is no state of a sandbox.
    """
    try:
        document = orjson.loads(path.read_bytes())
        if document["version"] != VERSION:
            raise ValueError("another version")
        _fill(world, document)
        clock.advance(float(document["ahead_seconds"]))
    except FileNotFoundError:
        return
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as wrong:
        raise SandboxError(
            f"Expected the state of a sandbox in {path}, found something else ({type(wrong).__name__}): choose another "
            "file, or delete it to begin anew."
        ) from wrong


def _fill(world: World, document: dict[str, Any]) -> None:
    world.ids.resume(document["seed"], document["dealt_count"])
    for row in document["users"]:
        world.users[row["id"]] = User(**row)
    world.objects.update(world.users)
    reached = {row["value"]: row.pop("accounts") for row in document["tokens"]}
    for row in document["tokens"]:
        world.tokens[row["value"]] = Token(**row)
    for row in document["accounts"]:
        world.restore(_account(world, row))
    for value, ids in reached.items():
        world.tokens[value].accounts = {account_id: world.accounts[account_id] for account_id in ids}
    for kind, build in _BUILDERS.items():
        for row in document[kind]:
            world.add(build(world, row))
    for row in document["posts"]:
        world.enlist(_post(world, row))


def _row(thing: Any) -> dict[str, Any]:
    return {it.name: _plain(getattr(thing, it.name)) for it in fields(thing) if it.name not in _LEFT_OUT}


def _plain(value: Any) -> Any:
    match value:
        case Token():
            return value.value
        case Account() | Container() | Photo() | Video() | Post():
            return value.id
        case Details():
            return asdict(value)
        case dict() if all(isinstance(it, Account) for it in value.values()) and value:
            return list(value)
        case tuple() | list() | deque():
            return [_plain(it) for it in value]
        case _:
            return value


def _account(world: World, row: dict[str, Any]) -> Account:
    instants = {name: deque(row[name]) for name in ("containers_created_at", "published_at", "reels_at")}
    return Account(**row | instants | {"platform": Platform(row["platform"]), "token": world.tokens[row["token"]]})


def _made(world: World, row: dict[str, Any]) -> dict[str, Any]:
    read = dict(row)
    read["account"] = world.accounts[row["account"]]
    read["details"] = _details(row["details"])
    if row.get("problem") is not None:
        read["problem"] = MediaProblem(row["problem"])
    for name, kind in (("placement", Placement), ("medium", Medium)):
        if name in row:
            read[name] = kind(row[name])
    return read


def _container(world: World, row: dict[str, Any]) -> Container:
    children = tuple(world.objects[child_id] for child_id in row["children"])
    return Container(**_made(world, row) | {"children": children})


def _photo(world: World, row: dict[str, Any]) -> Photo:
    return Photo(**_made(world, row))


def _video(world: World, row: dict[str, Any]) -> Video:
    video = Video(**_made(world, row))
    if video.session_id is not None:
        world.sessions[video.session_id] = video
    return video


def _post(world: World, row: dict[str, Any]) -> Post:
    # JSON has no infinity: what is not published comes back from null.
    instants = {name: math.inf if row[name] is None else row[name] for name in ("published_at", "visible_at")}
    references = {
        "source_urls": tuple(row["source_urls"]),
        "made_from": tuple(world.objects[made_id] for made_id in row["made_from"]),
        "items": tuple(world.objects[post_id] for post_id in row["items"]),
    }
    return Post(**_made(world, row) | references | instants)


def _details(row: dict[str, Any]) -> Details:
    return Details(**row | {name: tuple(row[name]) for name in ("user_tags", "collaborators")})


_BUILDERS: Final[dict[str, Callable[[World, dict[str, Any]], Made]]] = {
    "containers": _container,
    "photos": _photo,
    "videos": _video,
}
