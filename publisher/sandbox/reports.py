"""Rows of the control API's answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from publisher.sandbox.objects import Account, Container, Details, Photo, Placement, Platform, Post, Video
from publisher.sandbox.settings import Switches

# How a secret is shown.
MASK: Final = "**********"


def account_report(account: Account) -> dict[str, Any]:
    """Return an account; its token is shown, since the sandbox issued it for tests."""
    return {
        "id": account.id,
        "platform": account.platform,
        "name": account.name,
        "token": account.token.value,
        "token_state": account.token.state,
        "login": "instagram" if account.scoped_id else "facebook",
        "quota_total": account.quota_total,
        "usage": account.usage,
        "missing_scopes": account.missing_scopes,
    }


def live_row(post: Post) -> dict[str, Any]:
    """Return something that went live: one row each time that it did.

    On Instagram `media_id` is the post and `post_id` is null; on a Page `post_id` is the post and `media_id` the
    photo or video in it, as in `GET /{page-id}/stories`. `media` is the first URL of `media_urls`; of a file that was
    sent, its name. `details` is what went with the post, `shows` each thing in it with what went with that.
    """
    is_instagram = post.account.platform is Platform.INSTAGRAM
    made_from = post.made_from[0] if post.made_from else None
    return {
        "account": post.account.id,
        "platform": post.account.platform,
        "kind": kind_of(post),
        "media_id": post.id if is_instagram else made_from.id if made_from else None,
        "post_id": None if is_instagram else post.id,
        "media": post.source_urls[0] if post.source_urls else None,
        "media_urls": list(post.source_urls),
        "text": post.details.caption,
        "link": post.details.link,
        "container_id": made_from.id if isinstance(made_from, Container) else None,
        "photo_id": made_from.id if isinstance(made_from, Photo) else None,
        "video_id": made_from.id if isinstance(made_from, Video) else None,
        "published_at": post.published_at,
        "details": details_row(post.details),
        "shows": [
            {"media": shown.source_urls[0] if shown.source_urls else None, "details": details_row(shown.details)}
            for shown in post.items or post.made_from
        ],
    }


def details_row(details: Details) -> dict[str, Any]:
    """Return what went with the media, as far as it is not as it is without a word."""
    usual = asdict(Details())
    return {name: value for name, value in asdict(details).items() if value != usual[name]}


def kind_of(post: Post) -> str:
    """Return what it is in a word: `photo_story`, `feed_photo`, `feed_carousel`, `feed_text`, `reel`, ..."""
    match post.placement:
        case Placement.STORY:
            return f"{post.medium}_story"
        case Placement.REEL:
            return "reel"
        case _:
            return f"feed_{post.medium}"


def settings_report(switches: Switches) -> dict[str, Any]:
    """Return the switches; the app's secret is masked."""
    return switches.model_dump(mode="json")
