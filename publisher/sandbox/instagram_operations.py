"""Carries Instagram's calls out: checks their media where that is asked for, then changes or reads the world."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from publisher.sandbox import container_status, containers, instagram, instagram_media, listing
from publisher.sandbox.calls import Call
from publisher.sandbox.checks import GOOD, Checks
from publisher.sandbox.clock import Clock
from publisher.sandbox.containers import ContainerOrder
from publisher.sandbox.endpoints import Endpoint
from publisher.sandbox.hosts import INSTAGRAM_UPLOAD
from publisher.sandbox.objects import Container, Medium, Placement, Post, Verdict
from publisher.sandbox.shared_operations import account_of, listed
from publisher.sandbox.uploads import Uploads
from publisher.sandbox.world import World

Answer = dict[str, Any]


class InstagramOperations:
    """One method for each endpoint."""

    def __init__(self, world: World, clock: Clock, checks: Checks, uploads: Uploads) -> None:
        self._world = world
        self._clock = clock
        self._checks = checks
        self._uploads = uploads
        self.by_endpoint: dict[Endpoint, Callable[[Call], Awaitable[Answer]]] = {
            Endpoint.CREATE_CONTAINER: self._create_container,
            Endpoint.CONTAINER_STATUS: self._container_status,
            Endpoint.PUBLISH_CONTAINER: self._publish_container,
            Endpoint.PUBLISHING_LIMIT: self._publishing_limit,
            Endpoint.LIST_MEDIA: self._list_media,
            Endpoint.READ_MEDIA: self._read_media,
            Endpoint.LIST_CHILDREN: self._list_children,
        }

    async def _create_container(self, call: Call) -> Answer:
        account, now = account_of(call), self._clock.now()
        order = containers.read_order(self._world, account, call.values, now)
        instagram.admit_container(self._world, account, now)
        verdict = await self._check_images(order)
        instagram.admit_container(self._world, account, self._clock.now())
        is_fetched_later = order.medium is Medium.VIDEO and not order.awaits_upload and self._checks.are_on
        container = instagram.create_container(
            self._world,
            account,
            order,
            checked=not is_fetched_later,
            is_jpeg=verdict.is_jpeg,
            now=self._clock.now(),
        )
        container.subcode = call.failing_subcode
        if is_fetched_later:
            self._uploads.check(container)
        if order.awaits_upload:
            return {"id": container.id, "uri": call.site.upload_url(INSTAGRAM_UPLOAD, container.id)}
        return {"id": container.id}

    async def _check_images(self, order: ContainerOrder) -> Verdict:
        """Fetch what is fetched during the call: an image, or a reel's cover.

        Raises:
            GraphError: it can't be fetched or used.
        """
        verdict = GOOD
        images = [(order.source_url, order.placement)] if order.medium is Medium.PHOTO else []
        images += [(order.details.cover_url, Placement.REEL)]
        for url, placement in images:
            if url is None:
                continue
            found = await self._checks.instagram_image(url, placement)
            if found.problem is not None:
                raise instagram.image_error(found.problem, url)
            verdict = found
        return verdict

    async def _container_status(self, call: Call) -> Answer:
        assert isinstance(call.node, Container)
        fields = call.values.get("fields")
        return container_status.read_container(call.node, fields, self._world.switches, self._clock.now())

    async def _publish_container(self, call: Call) -> Answer:
        creation_id = call.values.get("creation_id")
        post = instagram.publish(self._world, account_of(call), creation_id, self._clock.now())
        return {"id": post.id}

    async def _publishing_limit(self, call: Call) -> Answer:
        since = listing.read_number(call.values, "since")
        fields = call.values.get("fields")
        return instagram.read_limit(self._world, account_of(call), fields, since, self._clock.now())

    async def _list_media(self, call: Call) -> Answer:
        page, names = listing.read_page(call.values), instagram_media.media_fields(call.values.get("fields"))
        posts = listing.feed(account_of(call), page, self._clock.now())
        return listed(call, posts, page, lambda post: instagram_media.media_row(post, names))

    async def _read_media(self, call: Call) -> Answer:
        assert isinstance(call.node, Post)
        return instagram_media.media_row(call.node, instagram_media.media_fields(call.values.get("fields")))

    async def _list_children(self, call: Call) -> Answer:
        assert isinstance(call.node, Post)
        names = instagram_media.media_fields(call.values.get("fields"))
        return {"data": [instagram_media.media_row(item, names) for item in call.node.items]}
