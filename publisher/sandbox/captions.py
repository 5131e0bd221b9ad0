"""Rules of captions and of who is named (Meta: IG User Media reference; the sheet of parameters there)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from publisher.sandbox import answers

CAPTION_LENGTH_MAX: Final = 2_200
HASHTAGS_MAX: Final = 30
MENTIONS_MAX: Final = 20
ALT_TEXT_LENGTH_MAX: Final = 1_000
COLLABORATORS_MAX: Final = 3
USER_TAGS_MAX: Final = 20
_HASHTAG: Final = re.compile(r"#\w+")
_MENTION: Final = re.compile(r"(?<!\w)@[\w.]+")


def read_caption(parameters: Mapping[str, str]) -> str | None:
    """Return the caption.

    Raises:
        GraphError: 36004/2207010, too long, or with too many hashtags or mentions.
    """
    caption = parameters.get("caption")
    if not caption:
        return None
    if (
        len(caption) > CAPTION_LENGTH_MAX
        or len(_HASHTAG.findall(caption)) > HASHTAGS_MAX
        or len(_MENTION.findall(caption)) > MENTIONS_MAX
    ):
        raise answers.caption_too_long()
    return caption


def read_alt_text(parameters: Mapping[str, str]) -> str | None:
    """Return the text for those who can't see the picture.

    Raises:
        GraphError: 100, too long.
    """
    text = parameters.get("alt_text")
    if text and len(text) > ALT_TEXT_LENGTH_MAX:
        raise answers.invalid_parameter(f"param alt_text must be at most {ALT_TEXT_LENGTH_MAX} characters long.")
    return text or None


def read_collaborators(parameters: Mapping[str, str]) -> tuple[str, ...]:
    """Return the accounts that are invited as authors.

    Raises:
        GraphError: 100, not a list of at most three names.
    """
    names = read_list(parameters, "collaborators")
    if len(names) > COLLABORATORS_MAX:
        raise answers.invalid_parameter(f"param collaborators must hold at most {COLLABORATORS_MAX} usernames.")
    return names


def read_user_tags(parameters: Mapping[str, str], *, needs_position: bool) -> tuple[dict[str, Any], ...]:
    """Return who is tagged, and where: `[{"username": "u", "x": 0.5, "y": 0.8}]`.

    Raises:
        GraphError: 100, not such a list, or a position outside of 0.0 to 1.0.
    """
    text = parameters.get("user_tags")
    if not text:
        return ()
    tags = _load(text, "user_tags")
    if not isinstance(tags, list) or len(tags) > USER_TAGS_MAX:
        raise answers.invalid_parameter("param user_tags must be an array of at most 20 tags.")
    for tag in tags:
        if not isinstance(tag, dict) or not isinstance(tag.get("username"), str) or not tag["username"]:
            raise answers.invalid_parameter("param user_tags must hold objects with a username.")
        position = [tag.get("x"), tag.get("y")]
        if position == [None, None] and not needs_position:
            continue
        if not all(isinstance(it, int | float) and not isinstance(it, bool) and 0 <= it <= 1 for it in position):
            raise answers.invalid_parameter("param user_tags must hold x and y from 0.0 to 1.0.")
    return tuple(tags)


def read_location(parameters: Mapping[str, str]) -> str | None:
    """Return the id of the Page whose place it is.

    Raises:
        GraphError: 100, not an id.
    """
    location_id = parameters.get("location_id")
    if location_id and not (location_id.isascii() and location_id.isdigit() and len(location_id) <= 20):
        raise answers.invalid_parameter("INSTAGRAM_PLATFORM_API__INVALID_LOCATION_ID")
    return location_id or None


def read_list(parameters: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Return a list of texts: a JSON array, or parted by commas.

    Raises:
        GraphError: 100, a JSON array of something else.
    """
    text = parameters.get(name, "").strip()
    if not text.startswith("["):
        return tuple(part for piece in text.split(",") if (part := piece.strip()))
    items = _load(text, name)
    if not isinstance(items, list) or not all(isinstance(it, str | int) for it in items):
        raise answers.invalid_parameter(f"param {name} must be an array.")
    return tuple(str(it) for it in items)


def is_true(parameters: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """Return a flag: Graph takes true, True and 1."""
    text = parameters.get(name)
    return default if text is None or text == "" else text.lower() in ("true", "1")


def _load(text: str, name: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as malformed:
        raise answers.invalid_parameter(f"param {name} must be valid JSON.") from malformed
