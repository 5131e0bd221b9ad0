"""Carries calls out: checks their media where that is asked for, then changes or reads the world."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from publisher.sandbox import answers, facebook, instagram, listing, tokens
from publisher.sandbox.calls import Call, Endpoint
from publisher.sandbox.clock import Clock
from publisher.sandbox.media import Inspector, temporary_file
from publisher.sandbox.objects import Account, Container, MediaProblem, Medium, Photo, Platform, Post, Video
from publisher.sandbox.uploads import Uploads
from publisher.sandbox.world import World

Answer = dict[str, Any]


class Operations:
    """One method for each endpoint."""

    def __init__(self, world: World, clock: Clock, inspector: Inspector, uploads: Uploads) -> None:
        self._world = world
        self._clock = clock
        self._inspector = inspector
        self._by_endpoint: dict[Endpoint, Callable[[Call], Awaitable[Answer]]] = {
            Endpoint.CREATE_CONTAINER: self._create_container,
            Endpoint.CONTAINER_STATUS: self._container_status,
            Endpoint.PUBLISH_CONTAINER: self._publish_container,
            Endpoint.PUBLISHING_LIMIT: self._publishing_limit,
            Endpoint.LIST_STORIES: self._list_stories,
            Endpoint.READ_MEDIA: self._read_media,
            Endpoint.UPLOAD_PHOTO: self._upload_photo,
            Endpoint.PUBLISH_PHOTO_STORY: self._publish_photo_story,
            Endpoint.START_VIDEO_STORY: self._start_video_story,
            Endpoint.UPLOAD_VIDEO: uploads.receive,
            Endpoint.VIDEO_STATUS: self._video_status,
            Endpoint.FINISH_VIDEO_STORY: self._finish_video_story,
            Endpoint.READ_PHOTO: self._read_photo,
            Endpoint.READ_POST: self._read_post,
            Endpoint.READ_ACCOUNT: self._read_account,
            Endpoint.DELETE_OBJECT: self._delete_object,
            Endpoint.DEBUG_TOKEN: self._debug_token,
        }

    async def carry_out(self, call: Call) -> Answer:
        """Return the answer of a call.

        Raises:
            GraphError: it is refused.
        """
        return await self._by_endpoint[call.endpoint](call)

    async def _create_container(self, call: Call) -> Answer:
        account = _account(call)
        medium, url = instagram.read_media(call.values)
        instagram.admit_container(self._world, account, self._clock.now())
        check_media = self._world.switches.check_media
        if check_media and medium is Medium.PHOTO:
            problem = await self._inspect_image(url)
            if problem is not None:
                raise instagram.image_error(problem, url)
            instagram.admit_container(self._world, account, self._clock.now())
        is_checked = medium is Medium.PHOTO or not check_media
        container = instagram.create_container(
            self._world, account, medium, url, checked=is_checked, now=self._clock.now()
        )
        if not is_checked:
            self._inspector.start(self._check_video(container))
        return {"id": container.id}

    async def _inspect_image(self, url: str) -> MediaProblem | None:
        from publisher.sandbox import decoders  # noqa: PLC0415  # an optional extra

        switches = self._world.switches
        rule = decoders.STORY_IMAGE if switches.strict_formats else decoders.ANY_IMAGE
        return await self._inspector.inspect(url, rule, timeout_seconds=switches.media_timeout_seconds)

    async def _check_video(self, container: Container) -> None:
        from publisher.sandbox import decoders  # noqa: PLC0415  # an optional extra

        container.problem = await self._inspector.inspect(
            container.source_url,
            decoders.STORY_VIDEO,
            timeout_seconds=self._world.switches.media_timeout_seconds,
        )
        container.checked = True

    async def _container_status(self, call: Call) -> Answer:
        assert isinstance(call.node, Container)
        return instagram.read_container(call.node, call.values.get("fields"), self._clock.now())

    async def _publish_container(self, call: Call) -> Answer:
        creation_id = call.values.get("creation_id")
        post = instagram.publish(self._world, _account(call), creation_id, self._clock.now())
        return {"id": post.id}

    async def _publishing_limit(self, call: Call) -> Answer:
        since = listing.read_number(call.values, "since")
        fields = call.values.get("fields")
        return instagram.read_limit(self._world, _account(call), fields, since, self._clock.now())

    async def _list_stories(self, call: Call) -> Answer:
        account, page, now = _account(call), listing.read_page(call.values), self._clock.now()
        fields = call.values.get("fields")
        if account.platform == Platform.INSTAGRAM:
            names = instagram.media_fields(fields)
            posts = listing.live_stories(account, page, now)
            return listing.answer(posts, page, lambda post: instagram.media_row(post, names))
        names = facebook.story_fields(fields)
        status = call.values.get("status", "PUBLISHED").upper()
        if status not in ("PUBLISHED", "ARCHIVED"):
            raise answers.invalid_parameter("param status must be one of {PUBLISHED, ARCHIVED}")
        if status == "PUBLISHED":
            posts = listing.live_stories(account, page, now)
        else:
            has_archive = self._world.switches.story_archive
            posts = listing.archived_stories(account, page, now) if has_archive else []
        return listing.answer(posts, page, lambda post: facebook.story_row(post, names, now))

    async def _read_media(self, call: Call) -> Answer:
        assert isinstance(call.node, Post)
        return instagram.media_row(call.node, instagram.media_fields(call.values.get("fields")))

    async def _upload_photo(self, call: Call) -> Answer:
        url = call.values.get("url")
        if not url and call.parameters.file is None:
            raise answers.invalid_parameter("The parameter url is required")
        if self._world.switches.check_media and await self._photo_problem(call) is not None:
            raise answers.image_file_invalid()
        now = self._clock.now()
        photo = facebook.create_photo(self._world, _account(call), call.media_url, now)
        if call.values.get("published", "true").lower() in ("false", "0"):
            return {"id": photo.id}
        return {"id": photo.id, "post_id": facebook.publish_to_feed(self._world, photo, now).id}

    async def _photo_problem(self, call: Call) -> MediaProblem | None:
        from publisher.sandbox import decoders  # noqa: PLC0415  # an optional extra

        url, file = call.values.get("url"), call.parameters.file
        if url:
            timeout_seconds = self._world.switches.media_timeout_seconds
            return await self._inspector.inspect(url, decoders.PAGE_PHOTO, timeout_seconds=timeout_seconds)
        assert file is not None
        with temporary_file() as content:
            content.write(file.content)
            return await self._inspector.inspect_file(content, decoders.PAGE_PHOTO)

    async def _publish_photo_story(self, call: Call) -> Answer:
        photo_id = call.values.get("photo_id")
        post = facebook.publish_photo_story(self._world, _account(call), photo_id, self._clock.now())
        return {"success": True, "post_id": post.id}

    async def _start_video_story(self, call: Call) -> Answer:
        video = facebook.start_video(self._world, _account(call), self._clock.now())
        request = call.request
        upload_url = f"{request.scheme}://{request.host}/video-upload/v25.0/{video.id}"
        return {"video_id": video.id, "upload_url": upload_url}

    async def _video_status(self, call: Call) -> Answer:
        assert isinstance(call.node, Video)
        return facebook.read_video(call.node, call.values.get("fields"), self._clock.now())

    async def _finish_video_story(self, call: Call) -> Answer:
        video_id = call.values.get("video_id")
        post = facebook.publish_video_story(self._world, _account(call), video_id, self._clock.now())
        return {"success": True, "post_id": post.id}

    async def _read_photo(self, call: Call) -> Answer:
        assert isinstance(call.node, Photo)
        if call.node.is_gone(self._clock.now()):
            raise answers.unsupported("get", call.node.id)
        return facebook.read_photo(call.node, call.values.get("fields"))

    async def _read_post(self, call: Call) -> Answer:
        assert isinstance(call.node, Post)
        return facebook.read_post(call.node, call.values.get("fields"), self._clock.now())

    async def _read_account(self, call: Call) -> Answer:
        account, fields = _account(call), call.values.get("fields")
        if account.platform == Platform.INSTAGRAM:
            return instagram.read_account(account, fields)
        return facebook.read_page(account, fields)

    async def _delete_object(self, call: Call) -> Answer:
        """Refuse: what is published can't be taken back, and each kind says so differently."""
        assert call.node is not None
        if isinstance(call.node, Photo):
            return {"success": False}
        if _account(call).platform == Platform.INSTAGRAM:
            raise answers.permission_missing()
        raise answers.unsupported("delete", call.node.id)

    async def _debug_token(self, call: Call) -> Answer:
        return tokens.debug(self._world, call.values.get("input_token"))


def _account(call: Call) -> Account:
    assert call.account is not None
    return call.account
