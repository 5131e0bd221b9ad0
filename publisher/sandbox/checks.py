"""Fetches the media of a call and checks it by the rule for its place, or takes it as good where that is chosen."""

from __future__ import annotations

from typing import IO

from publisher.sandbox import decoders
from publisher.sandbox.decoders import MediaRule
from publisher.sandbox.media import Inspector
from publisher.sandbox.objects import Container, MediaProblem, Placement, Verdict, Video
from publisher.sandbox.world import World

GOOD = Verdict()


class Checks:
    """Chooses the rule for a medium, and has it held to that."""

    def __init__(self, world: World, inspector: Inspector) -> None:
        self._world = world
        self._inspector = inspector
        self.start = inspector.start

    @property
    def are_on(self) -> bool:
        """Whether media is checked at all."""
        return self._world.switches.check_media

    async def instagram_image(self, url: str, placement: Placement) -> Verdict:
        """Check an image of a container, or a reel's cover."""
        if not self.are_on:
            return GOOD
        return await self._inspector.inspect(
            url,
            decoders.instagram_image(placement, self._world.switches),
            timeout_seconds=self._world.switches.media_timeout_seconds,
        )

    async def page_photo(self, url: str | None, content: bytes | None) -> MediaProblem | None:
        """Check a photo by its URL, or one that was sent."""
        if not self.are_on:
            return None
        if url:
            timeout_seconds = self._world.switches.media_timeout_seconds
            return (await self._inspector.inspect(url, decoders.PAGE_PHOTO, timeout_seconds=timeout_seconds)).problem
        return (await self._inspector.inspect_bytes(content or b"", decoders.PAGE_PHOTO)).problem

    async def video(self, node: Container | Video, url: str) -> Verdict:
        """Fetch and check a video."""
        timeout_seconds = self._world.switches.media_timeout_seconds
        return await self._inspector.inspect(url, self._video_rule(node), timeout_seconds=timeout_seconds)

    async def video_file(self, node: Container | Video, file: IO[bytes]) -> Verdict:
        """Check a video that was sent."""
        return await self._inspector.inspect_file(file, self._video_rule(node))

    def _video_rule(self, node: Container | Video) -> MediaRule:
        if isinstance(node, Container):
            return decoders.instagram_video(node.placement)
        return decoders.page_video(node.placement, self._world.switches)
