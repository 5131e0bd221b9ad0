"""Carries a Page's calls out: checks their media where that is asked for, then changes or reads the world."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from publisher.sandbox import answers, listing, page_fields, page_photos, page_posts, page_videos
from publisher.sandbox.calls import Call
from publisher.sandbox.checks import Checks
from publisher.sandbox.clock import Clock
from publisher.sandbox.endpoints import Endpoint
from publisher.sandbox.hosts import PAGE_UPLOAD
from publisher.sandbox.objects import Details, Photo, Placement, Post, Video
from publisher.sandbox.shared_operations import account_of, listed
from publisher.sandbox.uploads import Uploads
from publisher.sandbox.world import World

Answer = dict[str, Any]


class PageOperations:
    """One method for each endpoint."""

    def __init__(self, world: World, clock: Clock, checks: Checks, uploads: Uploads) -> None:
        self._world = world
        self._clock = clock
        self._checks = checks
        self._uploads = uploads
        self.by_endpoint: dict[Endpoint, Callable[[Call], Awaitable[Answer]]] = {
            Endpoint.UPLOAD_PHOTO: self._upload_photo,
            Endpoint.PUBLISH_PHOTO: self._upload_photo,
            Endpoint.PUBLISH_PHOTO_STORY: self._publish_photo_story,
            Endpoint.CREATE_POST: self._create_post,
            Endpoint.LIST_FEED: self._list_feed,
            Endpoint.LIST_PUBLISHED_POSTS: self._list_feed,
            Endpoint.START_VIDEO_STORY: self._start_upload,
            Endpoint.FINISH_VIDEO_STORY: self._finish_video_story,
            Endpoint.START_REEL: self._start_upload,
            Endpoint.FINISH_REEL: self._finish_reel,
            Endpoint.LIST_REELS: self._list_reels,
            Endpoint.CREATE_VIDEO: self._create_video,
            Endpoint.START_VIDEO: self._start_video,
            Endpoint.TRANSFER_VIDEO: self._transfer_video,
            Endpoint.FINISH_VIDEO: self._finish_video,
            Endpoint.VIDEO_STATUS: self._video_status,
            Endpoint.READ_PHOTO: self._read_photo,
            Endpoint.READ_POST: self._read_post,
        }

    async def _upload_photo(self, call: Call) -> Answer:
        url, file, values = call.values.get("url") or None, call.parameters.file, call.values
        if url is None and file is None:
            raise answers.invalid_parameter("The parameter url is required")
        at = page_posts.read_time(values, self._clock.now())
        if await self._checks.page_photo(url, file.content if file else None) is not None:
            raise answers.image_file_invalid()
        # `message` and `name` are older names of `caption`.
        caption = values.get("caption") or values.get("message") or values.get("name") or None
        details = Details(caption=caption, alt_text=values.get("alt_text_custom") or None)
        source, now = url or (file.name if file else None), self._clock.now()
        photo = page_photos.create_photo(self._world, account_of(call), source, details, now)
        if at == math.inf:
            return {"id": photo.id}
        return {"id": photo.id, "post_id": page_photos.publish_to_feed(self._world, photo, max(at, now)).id}

    async def _publish_photo_story(self, call: Call) -> Answer:
        photo_id = call.values.get("photo_id")
        post = page_photos.publish_photo_story(self._world, account_of(call), photo_id, self._clock.now())
        return {"success": True, "post_id": post.id}

    async def _create_post(self, call: Call) -> Answer:
        dropped = call.parameters.structured
        post = page_posts.create_post(self._world, account_of(call), call.values, dropped, self._clock.now())
        return {"id": post.id}

    async def _list_feed(self, call: Call) -> Answer:
        page, names, now = listing.read_page(call.values), page_fields.feed_fields(call.values.get("fields")), self._now
        posts = listing.feed(account_of(call), page, now)
        return listed(call, posts, page, lambda post: page_fields.feed_row(post, names, now))

    async def _start_upload(self, call: Call) -> Answer:
        placement = Placement.REEL if call.endpoint is Endpoint.START_REEL else Placement.STORY
        video = page_videos.start_video(self._world, account_of(call), placement, self._now)
        return {"video_id": video.id, "upload_url": call.site.upload_url(PAGE_UPLOAD, video.id)}

    async def _finish_video_story(self, call: Call) -> Answer:
        video_id = call.values.get("video_id")
        post = page_videos.publish_video_story(self._world, account_of(call), video_id, self._now)
        return {"success": True, "post_id": post.id}

    async def _finish_reel(self, call: Call) -> Answer:
        page_videos.publish_reel(self._world, account_of(call), call.values, self._now)
        return {"success": True}

    async def _list_reels(self, call: Call) -> Answer:
        page, names, now = listing.read_page(call.values), page_fields.reel_fields(call.values.get("fields")), self._now
        posts = listing.feed(account_of(call), page, now)
        reels = (post for post in posts if post.placement is Placement.REEL)
        return listed(call, reels, page, lambda post: page_fields.video_row(_video_of(post), names, now))

    async def _create_video(self, call: Call) -> Answer:
        url, file = call.values.get("file_url") or None, call.parameters.file
        if url is None and file is None:
            raise answers.invalid_parameter("The parameter file_url is required")
        source = url or (file.name if file else "")
        video = page_videos.create_video(self._world, account_of(call), call.values, source, self._now)
        if url is not None:
            self._uploads.fetch(video, url)
        elif file is not None:
            await self._uploads.take_file(video, file.content)
        return {"id": video.id}

    async def _start_video(self, call: Call) -> Answer:
        video = page_videos.start_chunks(self._world, account_of(call), call.values, self._now)
        return {"upload_session_id": video.session_id, "video_id": video.id, **_bounds(video)}

    async def _transfer_video(self, call: Call) -> Answer:
        values, file = call.values, call.parameters.file
        video = page_videos.find_session(self._world, account_of(call), values.get("upload_session_id"))
        start = listing.read_number(values, "start_offset")
        if start is None or file is None:
            raise answers.invalid_parameter("The parameters start_offset and video_file_chunk are required")
        await self._uploads.take_chunk(video, int(start), file.content)
        return _bounds(video)

    async def _finish_video(self, call: Call) -> Answer:
        video = page_videos.find_session(self._world, account_of(call), call.values.get("upload_session_id"))
        page_videos.finish_chunks(self._world, video, call.values, self._now)
        return {"success": True}

    async def _video_status(self, call: Call) -> Answer:
        assert isinstance(call.node, Video)
        return page_fields.video_row(call.node, page_fields.video_fields(call.values.get("fields")), self._now)

    async def _read_photo(self, call: Call) -> Answer:
        assert isinstance(call.node, Photo)
        if call.node.is_gone(self._now):
            raise answers.unsupported("get", call.node.id)
        return page_photos.read_photo(call.node, call.values.get("fields"))

    async def _read_post(self, call: Call) -> Answer:
        assert isinstance(call.node, Post)
        return page_fields.read_post(call.node, call.values.get("fields"), self._now)

    @property
    def _now(self) -> float:
        return self._clock.now()


def _bounds(video: Video) -> dict[str, str]:
    start, end = page_videos.chunk_bounds(video)
    return {"start_offset": str(start), "end_offset": str(end)}


def _video_of(post: Post) -> Video:
    video = post.made_from[0]
    assert isinstance(video, Video)
    return video
