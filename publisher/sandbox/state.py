"""The world in a file, so that a sandbox goes on after a restart where it stood.

    save   encode at once, on the loop -> write beside -> fsync -> rename     a reader finds the old one or the new one
    load   tokens, people, accounts -> containers, photos, videos -> posts    what refers comes after what it refers to

Saved is what Meta would remember, and how far the clock is ahead; not the faults, the requests and the settings. The
file holds tokens: only its owner can read it. A kill loses what happened since the last save, about a second.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

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
