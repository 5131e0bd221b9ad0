"""The decisions of a Page's videos: stories, reels, and `/videos` by URL, file or chunk.

Pure. Sources: Meta's Page Stories API, Reels Publishing guide, Page Videos reference, Video API error codes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from publisher.sandbox import answers
from publisher.sandbox.instagram import NOT_FETCHED, forget_old
from publisher.sandbox.listing import read_number
from publisher.sandbox.objects import Account, Details, MediaProblem, Medium, Placement, Post, Video
from publisher.sandbox.page_photos import repeated
from publisher.sandbox.page_posts import read_time
from publisher.sandbox.world import World

# What a chunk holds at most; Meta tells the next chunk's bounds in each answer.
CHUNK_BYTES: Final = 4_194_304
VIDEO_BYTES_MAX: Final = 2_000_000_000
_VIDEO_STATES: Final = ("PUBLISHED", "DRAFT", "SCHEDULED")


def start_video(world: World, page: Account, placement: Placement, now: float) -> Video:
    """Open an upload session for a story or a reel."""
    video = Video(id=world.ids.video(), account=page, created_at=now, placement=placement)
    world.add(video)
    return video


def create_video(world: World, page: Account, values: Mapping[str, str], source: str, now: float) -> Video:
    """Take a video for the feed in; it is published as soon as it is here and ready, unless told otherwise.

    Raises:
        GraphError: 100, a bad time.
    """
    at = read_time(values, now)
    video = start_video(world, page, Placement.FEED, now)
    video.source_url = source
    video.due_at = None if at == math.inf else at
    video.details = read_words(values)
    return video


def start_chunks(world: World, page: Account, values: Mapping[str, str], now: float) -> Video:
    """Open a chunked upload.

    Raises:
        GraphError: 100, no size; 1363023, too large.
    """
    size = read_number(values, "file_size")
    if not size:
        raise answers.invalid_parameter("The parameter file_size is required")
    if size > VIDEO_BYTES_MAX:
        raise answers.video_too_large()
    video = start_video(world, page, Placement.FEED, now)
    video.session_id = world.ids.upload_session()
    video.file_bytes = int(size)
    world.sessions[video.session_id] = video
    return video


def find_session(world: World, page: Account, session_id: str | None) -> Video:
    """Return the video of a chunked upload.

    Raises:
        GraphError: 1363041, there is no such session.
    """
    video = world.sessions.get(session_id or "")
    if video is None or video.account is not page:
        raise answers.upload_session_gone()
    return video


def chunk_bounds(video: Video) -> tuple[int, int]:
    """Return where the next chunk begins and ends: at one place when all is here."""
    start = video.received_bytes
    return start, min(start + CHUNK_BYTES, video.file_bytes or 0)


def finish_upload(world: World, video: Video, problem: MediaProblem | None, now: float) -> None:
    """Record that the file is here, or why it is not; processing starts, and what is due goes live after it."""
    video.problem = problem
    video.uploaded_at = None if problem in NOT_FETCHED else now
    video.ready_at = now + world.ids.seconds_between(*world.switches.video_seconds)
    if video.due_at is not None and problem is None and not video.posts:
        publish_to_feed(world, video, max(video.due_at, video.ready_at))


def publish_to_feed(world: World, video: Video, at: float) -> Post:
    """Publish a video in the feed."""
    return _go_live(world, video, world.ids.feed_post(video.account.id), at)


def finish_chunks(world: World, video: Video, values: Mapping[str, str], now: float) -> None:
    """Publish what was sent in chunks.

    Raises:
        GraphError: 6000, it is not all here, or bad; 100, published already.
    """
    if video.received_bytes < (video.file_bytes or 0):
        raise answers.upload_incomplete()
    if repeated(world, video.posts) is not None:
        return
    video.details = read_words(values)
    at = read_time(values, now)
    if at != math.inf:
        publish_to_feed(world, video, max(at, video.ready_at))


def publish_video_story(world: World, page: Account, video_id: str | None, now: float) -> Post:
    """Publish a video as a story; it may still be processing, and is listed when it is ready.

    Raises:
        GraphError: 100, no such video of this Page, or it is used already; 6000, the file is not here, or bad.
    """
    video = _uploaded(world, page, video_id, Placement.STORY)
    return repeated(world, video.posts) or _go_live(world, video, world.ids.story_post(), now)


def publish_reel(world: World, page: Account, values: Mapping[str, str], now: float) -> None:
    """Publish a reel, schedule it, or keep it as a draft; which post it becomes is not told.

    Raises:
        GraphError: 100, no such video, a bad state or time, or it is used already; 613, 30 reels in 24 hours;
            6000, the file is not here, or bad.
    """
    video = _uploaded(world, page, values.get("video_id"), Placement.REEL)
    state = values.get("video_state", "PUBLISHED").upper()
    if state not in _VIDEO_STATES:
        raise answers.invalid_parameter("param video_state must be one of {PUBLISHED, DRAFT, SCHEDULED}")
    if repeated(world, video.posts) is not None:
        return
    at = {"PUBLISHED": now, "DRAFT": math.inf}.get(state)
    if at is None:
        at = read_time({**values, "published": "false"}, now)
    forget_old(page.reels_at, now)
    if len(page.reels_at) >= world.switches.reel_limit:
        raise answers.reels_used_up()
    page.reels_at.append(now)
    video.details = read_words(values)
    _go_live(world, video, world.ids.feed_post(page.id), at)


def find_video(world: World, page: Account, video_id: str | None) -> Video | None:
    """Return a video of the Page."""
    video = world.objects.get(video_id or "")
    return video if isinstance(video, Video) and video.account is page else None


def read_words(values: Mapping[str, str]) -> Details:
    """Return title and description."""
    return Details(caption=values.get("description") or None, title=values.get("title") or None)


def _uploaded(world: World, page: Account, video_id: str | None, placement: Placement) -> Video:
    video = find_video(world, page, video_id)
    if video is None or video.placement is not placement:
        raise answers.invalid_parameter("Invalid id.")
    if video.uploaded_at is None or video.problem is not None or video.subcode is not None:
        raise answers.upload_incomplete()
    return video


def _go_live(world: World, video: Video, post_id: str, at: float) -> Post:
    return world.go_live(
        video.account,
        post_id,
        medium=Medium.VIDEO,
        placement=video.placement,
        made_from=(video,),
        details=video.details,
        now=at,
        ready_at=video.ready_at,
    )
