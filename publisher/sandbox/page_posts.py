"""The decisions of a Page's feed: text, links, photos that were uploaded before (Meta: Page Feed reference). Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import orjson

from publisher.sandbox import answers
from publisher.sandbox.captions import is_true
from publisher.sandbox.listing import read_number
from publisher.sandbox.objects import Account, Details, Medium, Photo, Placement, Post
from publisher.sandbox.page_photos import find_photo
from publisher.sandbox.world import World

SCHEDULE_SECONDS_MIN: Final = 600
SCHEDULE_SECONDS_MAX: Final = 30 * 86_400
_ATTACHED: Final = re.compile(r"attached_media(?:\[([0-9]{0,3})\])?")


def create_post(world: World, page: Account, values: Mapping[str, str], dropped: frozenset[str], now: float) -> Post:
    """Publish in the feed. What is `dropped` came as JSON, of which attached media is lost without a word.

    Raises:
        GraphError: 100, nothing to publish, no such photo, a bad time; 100/1366051, photos used before;
            1500, 200/1609008, the link.
    """
    published_at = read_time(values, now)
    message, link = values.get("message") or None, values.get("link") or None
    photos = _attached(world, page, values, dropped, now)
    if link is not None:
        _check_link(link)
    if message is None and link is None and not photos:
        raise answers.invalid_parameter("Missing message or attachment")
    used = [photo for photo in photos if photo.posts]
    if used and world.switches.republish == "same_id":
        return used[0].posts[0]
    if used and world.switches.republish == "error":
        raise answers.photos_posted_already()
    return world.go_live(
        page,
        world.ids.feed_post(page.id),
        medium=Medium.PHOTO if photos else Medium.TEXT,
        placement=Placement.FEED,
        made_from=photos,
        details=Details(caption=message, link=link),
        now=published_at,
    )


def read_time(values: Mapping[str, str], now: float) -> float:
    """Return when to publish: now, at a time from 10 minutes to 30 days ahead, or never.

    Raises:
        GraphError: 100, the time is out of bounds, or given for something that is published at once.
    """
    at = read_number(values, "scheduled_publish_time")
    published = is_true(values, "published", default=True)
    if at is None:
        return now if published else math.inf
    if published:
        raise answers.invalid_parameter("You cannot specify a scheduled publish time on a published post")
    if not now + SCHEDULE_SECONDS_MIN <= at + 1 <= now + SCHEDULE_SECONDS_MAX:
        raise answers.invalid_parameter("The specified scheduled publish time is invalid.")
    return at


def _attached(
    world: World, page: Account, values: Mapping[str, str], dropped: frozenset[str], now: float
) -> tuple[Photo, ...]:
    """Read `attached_media[0]={"media_fbid":"1"}` and so on, or `attached_media=[...]`."""
    found: list[tuple[int, str]] = []
    for name, value in values.items():
        match = _ATTACHED.fullmatch(name)
        if match is None or name in dropped:
            continue
        rows = _rows(value)
        found += [(int(match[1] or 0) + at, str(row.get("media_fbid", ""))) for at, row in enumerate(rows)]
    photos = tuple(find_photo(world, page, photo_id) for _, photo_id in sorted(found, key=lambda it: it[0]))
    good = tuple(photo for photo in photos if photo is not None and not photo.is_gone(now))
    if len(good) < len(photos):
        raise answers.invalid_parameter("Invalid media_fbid in attached_media")
    return good


def _rows(value: str) -> list[dict[str, object]]:
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as malformed:
        raise answers.invalid_parameter("param attached_media must be an array.") from malformed
    rows = document if isinstance(document, list) else [document]
    if not all(isinstance(row, dict) for row in rows):
        raise answers.invalid_parameter("param attached_media must be an array.")
    return rows


def _check_link(link: str) -> None:
    try:
        parts = urlsplit(link)
        host = (parts.hostname or "").lower()
    except ValueError:
        raise answers.link_invalid() from None
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise answers.link_invalid()
    if host == "facebook.com" or host.endswith(".facebook.com"):
        raise answers.link_to_facebook()
