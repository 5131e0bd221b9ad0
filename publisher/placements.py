"""From a variant to its placement: which calls with which parameters. Pure; the sheet's section is beside each rule.

| platform  | placement | made first                        | published by      | known afterwards by                  |
|-----------|-----------|-----------------------------------|-------------------|--------------------------------------|
| instagram | story     | a container                       | media_publish     | the container; the list of stories   |
|           | feed      | a container                       | media_publish     | the container; the list of media     |
|           | carousel  | a container a child, one for all  | media_publish     | the container; the list of media     |
|           | reel      | a container                       | media_publish     | the container; the list of media     |
| facebook  | story     | an unpublished photo, or a video  | photo_stories, .. | the photo or video in the stories    |
|           | post      | nothing                           | feed              | the text in the feed                 |
|           | photo(s)  | an unpublished photo each         | feed              | the photo's post                     |
|           | video     | an upload session                 | videos: finish    | the video's status                   |
|           | reel      | an upload session                 | video_reels: ..   | the video's status                   |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import orjson
from pydantic import SecretStr

from publisher.graph import GraphClient
from publisher.instagram.account import InstagramAccount
from publisher.instagram.containers import Container
from publisher.instagram.posts import InstagramPost
from publisher.page.account import Page
from publisher.page.photos import Photo, PhotoPost
from publisher.page.stories import PageStory
from publisher.page.text import TextPost
from publisher.page.videos import PageVideo, SessionVideo, VideoPost
from publisher.placement import MediaType, Medium, Placement, PostType
from publisher.variants import Account, Variant

Parameters: TypeAlias = dict[str, str]

PLACEMENTS: Mapping[str, frozenset[str]] = {
    "instagram": frozenset({"story", "feed", "carousel", "reel"}),
    "facebook": frozenset({"story", "post", "photo", "photos", "video", "reel"}),
}
"""As `social.check_placement` has them."""


def place(variant: Variant, account: Account, graph: GraphClient, token: SecretStr) -> Placement:
    """Return the placement of a variant on an account that has it."""
    if account.platform == "instagram":
        return instagram_post(variant, InstagramAccount(graph, account.remote_id, token))
    return page_post(variant, Page(graph, account.remote_id, token))


def page_post(variant: Variant, page: Page) -> Placement:
    """Return a post of a Page (sheet 2)."""
    text = variant.caption or ""
    match variant.placement:
        case "post":
            return TextPost(page, "post", (), text, variant.link)
        case "photo" | "photos":
            photos = (Photo(page, f"photo {number}", medium) for number, medium in enumerate(variant.media, start=1))
            return PhotoPost(page, variant.placement, tuple(photos), text)
        case "video":
            words = _given(description=text, title=variant.video_title)
            return VideoPost(page, "video", (SessionVideo(page, "video", variant.media[0], words),), text)
        case "reel":
            words = {"video_state": "PUBLISHED", **_given(description=text, title=variant.video_title)}
            video = PageVideo(page, "video", variant.media[0], "video_reels", words)
            return VideoPost(page, "reel", (video,), text)
        case _:
            medium = variant.media[0]
            is_image = medium.media_type is MediaType.IMAGE
            part = Photo(page, "photo", medium) if is_image else PageVideo(page, "video", medium, "video_stories")
            return PageStory(page, "story", (part,), "")


def instagram_post(variant: Variant, account: InstagramAccount) -> InstagramPost:
    """Return a post of Instagram: the parameters of sheet 1.2."""
    if variant.placement == "carousel":
        children = tuple(
            Container(account, f"child {number}", _child(medium), medium)
            for number, medium in enumerate(variant.media, start=1)
        )
        parts = (*children, Container(account, "container", {"media_type": "CAROUSEL", **_post(variant)}, None))
        return InstagramPost(account, "carousel", variant.media, parts, PostType.CAROUSEL, variant.caption or "")
    medium = variant.media[0]
    parameters = {"story": _story, "feed": _post, "reel": _reel}[variant.placement](variant)
    part = Container(account, "container", parameters, medium)
    post_type = PostType.VIDEO if medium.media_type is MediaType.VIDEO else PostType.IMAGE
    cover = Medium(MediaType.IMAGE, variant.cover_url) if variant.cover_url else None
    return InstagramPost(account, variant.placement, variant.media, (part,), post_type, variant.caption or "", cover)


def _story(variant: Variant) -> Parameters:
    return {"media_type": "STORIES", **_tags(variant.media[0])}


def _post(variant: Variant) -> Parameters:
    """A feed image, and what a carousel has as a whole; tags and alt text belong to the media of that one."""
    parameters = _given(
        caption=variant.caption,
        location_id=variant.location_id,
        collaborators=_as_json(variant.collaborators) if variant.collaborators else None,
    )
    if variant.placement == "feed":
        parameters |= _given(alt_text=variant.media[0].alt_text) | _tags(variant.media[0])
    return parameters


def _reel(variant: Variant) -> Parameters:
    return {
        "media_type": "REELS",
        **_post(variant),
        **_tags(variant.media[0]),
        **_given(
            share_to_feed=None if variant.share_to_feed is None else str(variant.share_to_feed).lower(),
            cover_url=variant.cover_url,
            thumb_offset=None if variant.thumb_offset_ms is None else str(variant.thumb_offset_ms),
        ),
    }


def _child(medium: Medium) -> Parameters:
    kind = {"media_type": "VIDEO"} if medium.media_type is MediaType.VIDEO else _given(alt_text=medium.alt_text)
    return {"is_carousel_item": "true", **kind, **_tags(medium)}


def _tags(medium: Medium) -> Parameters:
    return _given(user_tags=_as_json(medium.user_tags) if medium.user_tags else None)


def _as_json(value: object) -> str:
    """Return lists and objects as Graph takes them in a form."""
    return orjson.dumps(value).decode()


def _given(**values: str | None) -> Parameters:
    return {name: value for name, value in values.items() if value}
