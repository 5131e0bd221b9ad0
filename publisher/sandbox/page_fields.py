"""How a Page and what it published are read (Meta: Page Stories API; Page Feed and Video references). Pure."""

from __future__ import annotations

import math
import re
from typing import Any, Final

from publisher.sandbox.fields import Nested, Readers, pick, wanted, with_id
from publisher.sandbox.instagram import NOT_FETCHED
from publisher.sandbox.instagram_media import timestamp
from publisher.sandbox.objects import DAY_SECONDS, Account, MediaProblem, Medium, Placement, Platform, Post, Video

# Of something and a now.
_At = tuple[Post, float]
_VideoAt = tuple[Video, float]

_VIDEO_LINK: Final = re.compile(r"https?://(?:www\.)?(?:youtube\.com|youtu\.be)/", re.IGNORECASE)


def read_page(page: Account, requested: str | None) -> dict[str, Any]:
    """Return the fields of a Page."""
    return page_row(page, with_id(wanted(requested, PAGE_READERS, ("name", "id"))))


def page_row(page: Account, names: tuple[str, ...]) -> dict[str, Any]:
    """Return a Page, by itself or as a row of `me/accounts`."""
    return pick(page, names, PAGE_READERS)


def read_post(post: Post, requested: str | None, now: float) -> dict[str, Any]:
    """Return a post by itself: a story's status is in lower case here, in upper case in the list."""
    if post.placement is not Placement.STORY:
        return feed_row(post, with_id(feed_fields(requested)), now)
    row = pick((post, now), with_id(wanted(requested, _STORY_READERS, _STORY_FIELDS)), _STORY_READERS)
    return row | {"status": row["status"].lower()} if "status" in row else row


def story_fields(requested: str | None) -> tuple[str, ...]:
    """Return the names that `fields` asks of a story; by default all."""
    return wanted(requested, _STORY_READERS, _STORY_FIELDS)


def story_row(post: Post, names: tuple[str, ...], now: float) -> dict[str, Any]:
    """Return a row of `GET /{page-id}/stories`; its `media_id` is the photo or video that was sent."""
    return pick((post, now), names, _STORY_READERS)


def feed_fields(requested: str | None) -> tuple[str, ...]:
    """Return the names that `fields` asks of a feed post."""
    return with_id(wanted(requested, _FEED_READERS, ("created_time", "message")))


def feed_row(post: Post, names: tuple[str, ...], now: float) -> dict[str, Any]:
    """Return a feed post, by itself or as a row of a list."""
    return pick((post, now), names, _FEED_READERS)


def video_fields(requested: str | None) -> tuple[str, ...]:
    """Return the names that `fields` asks of a video."""
    return with_id(wanted(requested, _VIDEO_READERS, ("id",)))


def reel_fields(requested: str | None) -> tuple[str, ...]:
    """Return the names that `fields` asks of a reel in `GET /{page-id}/video_reels`."""
    return with_id(wanted(requested, _VIDEO_READERS, ("description", "updated_time")))


def video_row(video: Video, names: tuple[str, ...], now: float) -> dict[str, Any]:
    """Return a video, by itself or as a row of a list."""
    return pick((video, now), names, _VIDEO_READERS)


def _video_status(video: Video, now: float) -> dict[str, Any]:
    """Return the three phases; a failed one keeps its status and only carries an error.

    `bytes_transfered` is Meta's spelling for Pages.
    """
    uploading: dict[str, Any] = {"status": "not_started", "bytes_transfered": video.received_bytes}
    processing: dict[str, Any] = {"status": "not_started"}
    overall = "uploading"
    is_ready = video.uploaded_at is not None and now >= video.ready_at
    if video.problem in NOT_FETCHED:
        uploading = uploading | {"status": "error", "error": {"message": "The file could not be fetched."}}
        overall = "upload_failed"
    elif video.uploaded_at is not None:
        uploading["status"] = "complete"
        if video.problem is not None or video.subcode is not None:
            processing["error"] = _processing_error(video)
            overall = "error"
        else:
            processing["status"] = "complete" if is_ready else "in_progress"
            overall = "ready" if is_ready else "processing"
    elif video.received_bytes or video.source_url:
        uploading["status"] = "in_progress"
    return {
        "video_status": overall,
        "uploading_phase": uploading,
        "processing_phase": processing,
        "publishing_phase": _publishing_phase(video, now, is_ready=is_ready),
    }


def _publishing_phase(video: Video, now: float, *, is_ready: bool) -> dict[str, Any]:
    if not video.posts:
        return {"status": "not_started"}
    at = max(video.posts[0].published_at, video.ready_at)
    if at == math.inf:
        return {"status": "not_started", "publish_status": "draft"}
    if video.posts[0].published_at > max(now, video.ready_at):
        return {"status": "not_started", "publish_status": "scheduled", "publish_time": int(at)}
    if is_ready:
        return {"status": "complete", "publish_status": "published", "publish_time": int(at)}
    return {"status": "in_progress", "publish_status": "not_published"}


def _processing_error(video: Video) -> dict[str, Any]:
    if video.problem is None:
        return {"code": video.subcode, "message": "The video could not be processed."}
    return {"message": _PROCESSING_PROBLEMS.get(video.problem, "The format of the file is not supported.")}


def _permalink(post: Post) -> str:
    if post.placement is Placement.REEL:
        return f"https://www.facebook.com/reel/{post.made_from[0].id}"
    return f"https://www.facebook.com/{post.id}"


def _status_type(post: Post) -> str:
    match post.medium:
        case Medium.PHOTO:
            return "added_photos"
        case Medium.VIDEO:
            return "added_video"
        case _:
            return "shared_story" if post.details.link else "mobile_status_update"


def _attachments(post: Post) -> Nested | None:
    if post.details.link is None and not post.made_from:
        return None
    rows = [
        {
            "media_type": "album" if len(post.made_from) > 1 else str(post.medium),
            "type": "album" if len(post.made_from) > 1 else str(post.medium),
            "target": {"id": post.made_from[0].id},
            "url": post.source_urls[0] if post.source_urls else None,
            "subattachments": {"data": [{"target": {"id": made.id}} for made in post.made_from]}
            if len(post.made_from) > 1
            else None,
        }
        if post.made_from
        else _shared(str(post.details.link))
    ]
    known = frozenset({"media_type", "type", "target", "url", "subattachments", "title", "description"})
    return Nested(rows, ("media_type", "type", "target", "url", "subattachments"), known)


def _shared(link: str) -> dict[str, object]:
    """A link to a video is a video by its media type, too; that it is shared its type tells (reported by projects)."""
    kinds = ("video", "video_share_youtube") if _VIDEO_LINK.match(link) else ("link", "share")
    return {"media_type": kinds[0], "type": kinds[1], "url": link}


def _linked_instagram(page: Account) -> dict[str, str] | None:
    """Return the Instagram account that shares the Page's token."""
    return next(
        ({"id": it.id} for it in page.token.accounts.values() if it.platform is Platform.INSTAGRAM),
        None,
    )


_PROCESSING_PROBLEMS: Final = {
    MediaProblem.TOO_SMALL: "Resolution too low. Video must have a minimum resolution of 540p.",
    MediaProblem.TOO_LARGE: "The file is too large.",
}
_STORY_FIELDS: Final = ("post_id", "status", "creation_time", "media_type", "media_id", "url")
PAGE_READERS: Final[Readers[Account]] = {
    "id": lambda it: it.id,
    "name": lambda it: it.name,
    "access_token": lambda it: it.token.value,
    "category": lambda _: "Media/News Company",
    "tasks": lambda _: ["ANALYZE", "ADVERTISE", "MODERATE", "CREATE_CONTENT", "MANAGE"],
    "instagram_business_account": _linked_instagram,
}
_STORY_READERS: Final[Readers[_At]] = {
    "id": lambda it: it[0].id,
    "post_id": lambda it: it[0].id,
    "status": lambda it: "PUBLISHED" if it[1] < it[0].published_at + DAY_SECONDS else "ARCHIVED",
    "creation_time": lambda it: str(int(it[0].published_at)),
    "media_type": lambda it: str(it[0].medium),
    "media_id": lambda it: it[0].made_from[0].id,
    "url": lambda it: f"https://facebook.com/stories/{it[0].account.id}/{it[0].permalink_number}",
}
_FEED_READERS: Final[Readers[_At]] = {
    "id": lambda it: it[0].id,
    "message": lambda it: it[0].details.caption,
    "created_time": lambda it: timestamp(min(it[0].published_at, it[1])),
    "updated_time": lambda it: timestamp(min(it[0].published_at, it[1])),
    "permalink_url": lambda it: _permalink(it[0]),
    "status_type": lambda it: _status_type(it[0]),
    "is_published": lambda it: it[0].published_at <= it[1],
    "scheduled_publish_time": lambda it: int(it[0].published_at) if it[1] < it[0].published_at < math.inf else None,
    "full_picture": lambda it: it[0].source_urls[0] if it[0].source_urls else None,
    "from": lambda it: {"id": it[0].account.id, "name": it[0].account.name},
    "attachments": lambda it: _attachments(it[0]),
}
_VIDEO_READERS: Final[Readers[_VideoAt]] = {
    "id": lambda it: it[0].id,
    "status": lambda it: _video_status(*it),
    "description": lambda it: it[0].details.caption,
    "title": lambda it: it[0].details.title,
    "created_time": lambda it: timestamp(it[0].created_at),
    "updated_time": lambda it: timestamp(it[0].created_at),
    "post_id": lambda it: it[0].posts[0].id if it[0].posts else None,
    "published": lambda it: any(post.is_live(it[1]) for post in it[0].posts),
    "permalink_url": lambda it: _permalink(it[0].posts[0]) if it[0].posts else None,
}
