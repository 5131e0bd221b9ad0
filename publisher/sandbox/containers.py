"""What `POST /{ig-id}/media` asks for, and what it may not (Meta: IG User Media reference).

Pure: each takes the world and a now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from publisher.sandbox import answers, captions
from publisher.sandbox.objects import Account, Container, Details, Medium, Placement
from publisher.sandbox.world import World

ITEMS_MIN: Final = 2
ITEMS_MAX: Final = 10
REEL_SECONDS_MAX: Final = 900
_GRADUATIONS: Final = ("MANUAL", "SS_PERFORMANCE")


@dataclass(frozen=True, slots=True)
class ContainerOrder:
    """A container that is asked for: from a URL, from a file that will be sent, or from other containers."""

    placement: Placement
    medium: Medium
    source_url: str | None = None
    awaits_upload: bool = False
    children: tuple[Container, ...] = ()
    details: Details = field(default_factory=Details)


def read_order(world: World, account: Account, parameters: Mapping[str, str], now: float) -> ContainerOrder:
    """Return what a call wants to publish.

    Raises:
        GraphError: 100/2207023, an unknown kind; 100, a parameter is missing, malformed or not for this kind;
            100/2207028, 100/2207065, 24/2207008, a carousel that can't be; 36004/2207010, the caption.
    """
    is_item = captions.is_true(parameters, "is_carousel_item")
    media_type = parameters.get("media_type", "").upper()
    match media_type:
        case "STORIES" if not is_item:
            _refuse(parameters, "STORIES", "collaborators", "alt_text")
            return _from_media(account, parameters, Placement.STORY)
        case "REELS" if not is_item:
            _refuse(parameters, "REELS", "alt_text")
            return _reel(account, parameters)
        case "CAROUSEL" if not is_item:
            return _carousel(world, account, parameters, now)
        case "" | "IMAGE" | "VIDEO" if is_item:
            return _item(account, parameters, media_type)
        case "" | "IMAGE":
            return _feed_image(parameters)
        case "STORIES" | "REELS" | "CAROUSEL":
            raise answers.invalid_parameter(f"is_carousel_item can't be set for media type {media_type}")
        case _:
            raise answers.unknown_media_type(media_type)


def _feed_image(parameters: Mapping[str, str]) -> ContainerOrder:
    url = parameters.get("image_url")
    if not url:
        raise answers.invalid_parameter("The parameter image_url is required")
    details = Details(
        caption=captions.read_caption(parameters),
        alt_text=captions.read_alt_text(parameters),
        location_id=captions.read_location(parameters),
        user_tags=captions.read_user_tags(parameters, needs_position=True),
        collaborators=captions.read_collaborators(parameters),
    )
    return ContainerOrder(Placement.FEED, Medium.PHOTO, url, details=details)


def _reel(account: Account, parameters: Mapping[str, str]) -> ContainerOrder:
    order = _from_media(account, parameters, Placement.REEL)
    if order.medium is Medium.PHOTO:
        raise answers.invalid_parameter("The parameter video_url is required")
    details = Details(
        caption=captions.read_caption(parameters),
        location_id=captions.read_location(parameters),
        user_tags=captions.read_user_tags(parameters, needs_position=False),
        collaborators=captions.read_collaborators(parameters),
        share_to_feed=captions.is_true(parameters, "share_to_feed", default=True),
        cover_url=parameters.get("cover_url") or None,
        thumb_offset=_thumb_offset(parameters),
    )
    _check_trial(parameters)
    return ContainerOrder(Placement.REEL, Medium.VIDEO, order.source_url, order.awaits_upload, details=details)


def _item(account: Account, parameters: Mapping[str, str], media_type: str) -> ContainerOrder:
    _refuse(parameters, "a carousel item", "caption", "location_id", "collaborators", "is_ai_generated")
    details = Details(
        alt_text=captions.read_alt_text(parameters),
        user_tags=captions.read_user_tags(parameters, needs_position=media_type != "VIDEO"),
    )
    if media_type == "VIDEO":
        order = _from_media(account, parameters, Placement.ITEM)
        if order.medium is Medium.PHOTO:
            raise answers.invalid_parameter("The parameter video_url is required")
        return ContainerOrder(Placement.ITEM, Medium.VIDEO, order.source_url, order.awaits_upload, details=details)
    url = parameters.get("image_url")
    if not url:
        raise answers.invalid_parameter("The parameter image_url is required")
    return ContainerOrder(Placement.ITEM, Medium.PHOTO, url, details=details)


def _carousel(world: World, account: Account, parameters: Mapping[str, str], now: float) -> ContainerOrder:
    if parameters.get("user_tags"):
        raise answers.tags_on_carousel()
    _refuse(parameters, "CAROUSEL", "alt_text")
    ids = captions.read_list(parameters, "children")
    if not ITEMS_MIN <= len(ids) <= ITEMS_MAX:
        raise answers.carousel_length_wrong()
    details = Details(
        caption=captions.read_caption(parameters),
        location_id=captions.read_location(parameters),
        collaborators=captions.read_collaborators(parameters),
    )
    children = tuple(_child(world, account, child_id, now) for child_id in ids)
    return ContainerOrder(Placement.FEED, Medium.CAROUSEL, children=children, details=details)


def _child(world: World, account: Account, child_id: str, now: float) -> Container:
    child = world.objects.get(child_id)
    if not isinstance(child, Container) or child.account is not account or child.status_code(now) == "EXPIRED":
        raise answers.container_not_found(child_id)
    if child.placement is not Placement.ITEM:
        raise answers.invalid_parameter(f"The container {child_id} was not made with is_carousel_item")
    return child


def _from_media(account: Account, parameters: Mapping[str, str], placement: Placement) -> ContainerOrder:
    """Read a URL, or that a video will be sent; a story is tagged without a position."""
    tags = captions.read_user_tags(parameters, needs_position=False) if placement is Placement.STORY else ()
    details = Details(user_tags=tags)
    image_url, video_url = parameters.get("image_url"), parameters.get("video_url")
    upload_type = parameters.get("upload_type", "").lower()
    if upload_type not in ("", "resumable"):
        raise answers.invalid_parameter("param upload_type must be one of {resumable}")
    if upload_type:
        if account.scoped_id is not None:
            raise answers.invalid_parameter("Resumable uploads need an app of Facebook Login")
        if image_url or video_url:
            raise answers.invalid_parameter("upload_type=resumable takes no URL")
        return ContainerOrder(placement, Medium.VIDEO, awaits_upload=True, details=details)
    if image_url and video_url:
        raise answers.invalid_parameter("Only one of image_url and video_url can be given")
    if video_url:
        return ContainerOrder(placement, Medium.VIDEO, video_url, details=details)
    if image_url:
        return ContainerOrder(placement, Medium.PHOTO, image_url, details=details)
    raise answers.invalid_parameter("The parameter image_url is required")


def _thumb_offset(parameters: Mapping[str, str]) -> int | None:
    """Read milliseconds; whether the video is so long shows when it is here."""
    text = parameters.get("thumb_offset")
    if not text:
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        raise answers.invalid_parameter("param thumb_offset must be an integer.")
    if not 0 <= int(text) <= REEL_SECONDS_MAX * 1_000:
        raise answers.thumbnail_offset_wrong()
    return int(text)


def _check_trial(parameters: Mapping[str, str]) -> None:
    text = parameters.get("trial_params")
    if not text:
        return
    try:
        trial = orjson.loads(text)
    except orjson.JSONDecodeError as malformed:
        raise answers.invalid_parameter("param trial_params must be valid JSON.") from malformed
    if not isinstance(trial, dict) or trial.get("graduation_strategy") not in _GRADUATIONS:
        raise answers.invalid_parameter(
            "param trial_params[graduation_strategy] must be one of {MANUAL, SS_PERFORMANCE}"
        )


def _refuse(parameters: Mapping[str, str], kind: str, *names: str) -> None:
    """Refuse what Meta's table rules out for this kind: whether Graph does, or ignores it, is not documented."""
    for name in names:
        if parameters.get(name):
            raise answers.invalid_parameter(f"The parameter {name} is not supported for {kind}")
