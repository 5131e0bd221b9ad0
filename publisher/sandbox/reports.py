"""Rows of the control API's answers."""

from __future__ import annotations

from typing import Any, Final

from publisher.sandbox.objects import Account, Container, Photo, Platform, Post, Video
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
        "quota_total": account.quota_total,
        "usage": account.usage,
    }


def live_row(post: Post) -> dict[str, Any]:
    """Return something that went live: one row each time that it did.

    On Instagram `media_id` is the story and `post_id` is null; on a Page `post_id` is the story and
    `media_id` the photo or video in it, as in `GET /{page-id}/stories`.
    """
    is_instagram = post.account.platform == Platform.INSTAGRAM
    made_from = post.made_from
    return {
        "account": post.account.id,
        "platform": post.account.platform,
        "kind": f"{post.medium}_story" if post.is_story else f"feed_{post.medium}",
        "media_id": post.id if is_instagram else made_from.id,
        "post_id": None if is_instagram else post.id,
        "media": post.source_url,
        "container_id": made_from.id if isinstance(made_from, Container) else None,
        "photo_id": made_from.id if isinstance(made_from, Photo) else None,
        "video_id": made_from.id if isinstance(made_from, Video) else None,
        "published_at": post.published_at,
    }


def settings_report(switches: Switches) -> dict[str, Any]:
    """Return the switches; the app's secret is masked."""
    return switches.model_dump(mode="json")
