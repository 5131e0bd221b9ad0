"""The decisions of Page stories (Meta: Page Stories API; Reels publishing guide for the status object).

Pure: each takes the world and a now.
"""

from __future__ import annotations

from typing import Any, Final

from publisher.sandbox import answers
from publisher.sandbox.fields import Readers, pick, wanted
from publisher.sandbox.objects import DAY_SECONDS, Account, MediaProblem, Medium, Photo, Post, Video
from publisher.sandbox.world import World


def create_photo(world: World, page: Account, source_url: str | None, now: float) -> Photo:
    """Take a photo in; unpublished, it lives for 24 hours."""
    photo = Photo(id=world.ids.photo(), account=page, source_url=source_url, created_at=now)
    world.objects[photo.id] = photo
    return photo


def publish_to_feed(world: World, photo: Photo, now: float) -> Post:
    """Publish a photo in the feed: what `/photos` does unless it is told `published=false`."""
    post_id = f"{photo.account.id}_{world.ids.photo()}"
    return world.go_live(photo, post_id, medium=Medium.PHOTO, now=now, ready_at=now, is_story=False)


def publish_photo_story(world: World, page: Account, photo_id: str | None, now: float) -> Post:
    """Publish a photo as a story.

    Raises:
        GraphError: 100, no such photo of this Page, or it is used already.
    """
    photo = find_photo(world, page, photo_id)
    if photo is None or photo.is_gone(now):
        raise answers.invalid_parameter("Invalid id.")
    repeated = _repeated(world, photo.posts)
    return repeated or world.go_live(photo, world.ids.story_post(), medium=Medium.PHOTO, now=now, ready_at=now)


def find_photo(world: World, page: Account, photo_id: str | None) -> Photo | None:
    """Return a photo of the Page."""
    photo = world.objects.get(photo_id or "")
    return photo if isinstance(photo, Photo) and photo.account is page else None


def start_video(world: World, page: Account, now: float) -> Video:
    """Open an upload session."""
    video = Video(id=world.ids.video(), account=page, created_at=now)
    world.objects[video.id] = video
    return video


def finish_upload(world: World, video: Video, problem: MediaProblem | None, now: float) -> None:
    """Record that the file is here, or why it is not; processing starts."""
    video.problem = problem
    video.uploaded_at = None if problem in _UPLOAD_PROBLEMS else now
    video.ready_at = now + world.ids.seconds_between(*world.switches.video_seconds)


def publish_video_story(world: World, page: Account, video_id: str | None, now: float) -> Post:
    """Publish a video as a story; it may still be processing, and is listed when it is ready.

    Raises:
        GraphError: 100, no such video of this Page, or it is used already; 6000, the file is not here, or bad.
    """
    video = find_video(world, page, video_id)
    if video is None:
        raise answers.invalid_parameter("Invalid id.")
    if video.uploaded_at is None or video.problem is not None:
        raise answers.upload_incomplete()
    repeated = _repeated(world, video.posts)
    return repeated or world.go_live(
        video, world.ids.story_post(), medium=Medium.VIDEO, now=now, ready_at=video.ready_at
    )


def find_video(world: World, page: Account, video_id: str | None) -> Video | None:
    """Return a video of the Page."""
    video = world.objects.get(video_id or "")
    return video if isinstance(video, Video) and video.account is page else None


def read_photo(photo: Photo, requested: str | None) -> dict[str, Any]:
    """Return the fields of a photo; `page_story_id` tells which post it became."""
    names = wanted(requested, _PHOTO_READERS, ("id",))
    return pick(photo, names if "id" in names else (*names, "id"), _PHOTO_READERS)


def read_video(video: Video, requested: str | None, now: float) -> dict[str, Any]:
    """Return the fields of a video."""
    readers: Readers[Video] = {"id": lambda it: it.id, "status": lambda it: _video_status(it, now)}
    names = wanted(requested, readers, ("id",))
    return pick(video, names if "id" in names else (*names, "id"), readers)


def read_post(post: Post, requested: str | None, now: float) -> dict[str, Any]:
    """Return a story post by itself: its status is in lower case here, in upper case in the list."""
    names = wanted(requested, _POST_READERS, _STORY_FIELDS)
    row = pick((post, now), names if "id" in names else (*names, "id"), _POST_READERS)
    return row | {"status": row["status"].lower()} if "status" in row else row


def story_fields(requested: str | None) -> tuple[str, ...]:
    """Return the names that `fields` asks of a story; by default all."""
    return wanted(requested, _POST_READERS, _STORY_FIELDS)


def story_row(post: Post, names: tuple[str, ...], now: float) -> dict[str, Any]:
    """Return a row of `GET /{page-id}/stories`; its `media_id` is the photo or video that was sent."""
    return pick((post, now), names, _POST_READERS)


def read_page(page: Account, requested: str | None) -> dict[str, Any]:
    """Return the fields of a Page."""
    names = wanted(requested, _PAGE_READERS, ("name", "id"))
    return pick(page, names if "id" in names else (*names, "id"), _PAGE_READERS)


_UPLOAD_PROBLEMS: Final = (MediaProblem.UNREACHABLE, MediaProblem.TIMED_OUT)
_STORY_FIELDS: Final = ("post_id", "status", "creation_time", "media_type", "media_id", "url")
_PHOTO_READERS: Final[Readers[Photo]] = {
    "id": lambda it: it.id,
    "page_story_id": lambda it: it.posts[0].id if it.posts else None,
}
_PAGE_READERS: Final[Readers[Account]] = {"id": lambda it: it.id, "name": lambda it: it.name}
# Of a post and a now.
_POST_READERS: Final[Readers[tuple[Post, float]]] = {
    "id": lambda it: it[0].id,
    "post_id": lambda it: it[0].id,
    "status": lambda it: "PUBLISHED" if it[1] < it[0].published_at + DAY_SECONDS else "ARCHIVED",
    "creation_time": lambda it: str(int(it[0].published_at)),
    "media_type": lambda it: str(it[0].medium),
    "media_id": lambda it: it[0].made_from.id,
    "url": lambda it: f"https://facebook.com/stories/{it[0].account.id}/{it[0].permalink_number}",
}


def _repeated(world: World, posts: list[Post]) -> Post | None:
    if not posts or world.switches.republish == "duplicate":
        return None
    if world.switches.republish == "error":
        raise answers.already_published()
    return posts[0]


def _video_status(video: Video, now: float) -> dict[str, Any]:
    """Return the three phases; a failed one keeps its status and only carries an error.

    `bytes_transfered` is Meta's spelling for Pages.
    """
    uploading: dict[str, Any] = {"status": "not_started", "bytes_transfered": video.received_bytes}
    processing: dict[str, Any] = {"status": "not_started"}
    publishing: dict[str, Any] = {"status": "not_started"}
    overall = "uploading"
    is_ready = video.uploaded_at is not None and now >= video.ready_at
    if video.problem in _UPLOAD_PROBLEMS:
        uploading = uploading | {"status": "error", "error": {"message": "The file could not be fetched."}}
        overall = "upload_failed"
    elif video.uploaded_at is not None:
        uploading["status"] = "complete"
        if video.problem is not None:
            processing["error"] = {"message": _PROCESSING_PROBLEMS[video.problem]}
            overall = "error"
        else:
            processing["status"] = "complete" if is_ready else "in_progress"
            overall = "ready" if is_ready else "processing"
    elif video.received_bytes or video.source_url:
        uploading["status"] = "in_progress"
    if video.posts and is_ready:
        publish_time = int(max(video.posts[0].published_at, video.ready_at))
        publishing = {"status": "complete", "publish_status": "published", "publish_time": publish_time}
    elif video.posts:
        publishing = {"status": "in_progress", "publish_status": "not_published"}
    return {
        "video_status": overall,
        "uploading_phase": uploading,
        "processing_phase": processing,
        "publishing_phase": publishing,
    }


_PROCESSING_PROBLEMS: Final = {
    MediaProblem.TOO_SMALL: "Resolution too low. Video must have a minimum resolution of 540p.",
    MediaProblem.TOO_LARGE: "The file is too large.",
    MediaProblem.UNSUPPORTED: "The format of the file is not supported.",
}
