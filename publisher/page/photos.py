"""Photos of a Facebook Page, and posts of one or several (Meta: Page photos; sheet 2.1 and 2.4).

    POST /{page}/photos published=false            -> photo    Meta fetches it now, or takes the bytes that we send
    POST /{page}/feed attached_media[n]            -> post     irreversible
    GET  /{photo}?fields=page_story_id             the post that it is in

`POST /{page}/photos published=true` is one call less, and has no handle before it: its lost answer is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from publisher.envelope import required_id
from publisher.errors import GraphError
from publisher.page.post import PagePart, PagePost
from publisher.placement import (
    Endpoint,
    File,
    HandleState,
    HandleStatus,
    LivePost,
    Medium,
    PostType,
    Prepared,
    Sight,
    digest,
)


@dataclass(frozen=True, slots=True)
class Photo(PagePart):
    """An unpublished photo."""

    @property
    def attached(self) -> Medium | None:
        """The photo, where we send its bytes."""
        return self.medium if self.medium.upload else None

    def fingerprint(self, before: Sequence[Prepared]) -> str:  # noqa: ARG002
        """A digest of Page and medium, however it is sent."""
        return digest("facebook", self.page.id, self.medium.url, self.medium.alt_text)

    async def create(self, before: Sequence[Prepared], file: File | None) -> Prepared:  # noqa: ARG002
        """Upload the photo without publishing it; it lives for a day."""
        page, path, parameters = self.page, f"{self.page.id}/photos", {"published": "false"}
        if self.medium.alt_text:
            parameters["alt_text_custom"] = self.medium.alt_text
        if file is None:
            answer = await page.graph.post(Endpoint.PHOTOS, path, page.token, parameters | {"url": self.medium.url})
        else:
            name = PurePosixPath(urlsplit(self.medium.url).path).name or "photo"
            answer = await page.graph.post_file(
                Endpoint.PHOTOS, path, page.token, parameters, field="source", name=name, content=file.content
            )
        return Prepared(required_id(Endpoint.PHOTOS, answer, "id"))

    async def status(self, prepared: Prepared) -> HandleStatus:  # noqa: ARG002
        """A photo is ready when it has been uploaded."""
        return HandleStatus(HandleState.READY)


@dataclass(frozen=True, slots=True)
class PhotoPost(PagePost):
    """A post of one photo or several."""

    async def publish(self, prepared: Sequence[Prepared]) -> str | None:
        """Post the photos. In a form, since attached_media sent as JSON was dropped in silence (sheet 2.4)."""
        parameters = {
            f"attached_media[{index}]": f'{{"media_fbid":"{photo.handle}"}}' for index, photo in enumerate(prepared)
        }
        if self.text:
            parameters["message"] = self.text
        page = self.page
        answer = await page.graph.post(Endpoint.FEED_POST, f"{page.id}/feed", page.token, parameters)
        return required_id(Endpoint.FEED_POST, answer, "id")

    async def look(self, handles: Sequence[str], since: datetime) -> Sight:  # noqa: ARG002
        """Ask each photo for its post, to the first that has one."""
        status = HandleStatus(HandleState.READY)
        for handle in handles:
            try:
                answer = await self.page.graph.get(Endpoint.PHOTO, handle, self.page.token, {"fields": "page_story_id"})
            except GraphError as error:
                if not error.is_missing:
                    raise
                status = HandleStatus(HandleState.GONE, str(error))
                continue
            if answer.get("page_story_id"):
                post = required_id(Endpoint.PHOTO, answer, "page_story_id")
                return Sight(status, (LivePost(post, handle, PostType.IMAGE),), is_exact=True)
        return Sight(status, (), is_exact=status.state is HandleState.READY)
