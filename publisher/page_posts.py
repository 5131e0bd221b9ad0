"""Posts of a Facebook Page without media: a text, a link, or both (Meta: Pages posts; sheet 2.4).

    POST /{page}/feed message, link    -> post     irreversible
    GET  /{page}/feed                              what is live, with its text

There is no handle before the call: the post is known by its text, among those that were not there before. Where another
new post is there with another text, that may be ours as Meta changed it, and a person decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from publisher.graph import required_id
from publisher.page import Page
from publisher.placement import (
    Endpoint,
    HandleState,
    HandleStatus,
    LivePost,
    Medium,
    Part,
    PostType,
    Prepared,
    Sight,
)


@dataclass(frozen=True, slots=True)
class TextPost:
    """A text, a link, or both."""

    page: Page
    text: str
    link: str | None

    @property
    def platform(self) -> str:
        """Facebook."""
        return "facebook"

    @property
    def name(self) -> str:
        """The placement."""
        return "post"

    @property
    def media(self) -> tuple[Medium, ...]:
        """None."""
        return ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """Nothing is made first."""
        return ()

    @property
    def published_parts(self) -> tuple[Part, ...]:
        """Nothing is made first."""
        return ()

    @property
    def post_type(self) -> PostType:
        """A text."""
        return PostType.TEXT

    @property
    def names_its_handle(self) -> bool:
        """There is no handle."""
        return False

    def handles(self, prepared: Sequence[Prepared]) -> list[str]:  # noqa: ARG002
        """There are none."""
        return []

    async def live_ids(self, now: datetime) -> list[str]:
        """Return the ids of the Page's young posts."""
        return [post.id for post in await self.live(now)]

    async def publish(self, prepared: Sequence[Prepared]) -> str | None:  # noqa: ARG002
        """Post it."""
        page = self.page
        parameters = {name: value for name, value in (("message", self.text), ("link", self.link)) if value}
        answer = await page.graph.post(Endpoint.FEED_POST, f"{page.id}/feed", page.token, parameters)
        return required_id(Endpoint.FEED_POST, answer, "id")

    async def look(self, handles: Sequence[str], since: datetime) -> Sight:  # noqa: ARG002
        """Read the Page's feed."""
        return Sight(HandleStatus(HandleState.READY), await self.live(since))

    async def permalink(self, remote_id: str) -> str | None:
        """Read the post's address."""
        return await self.page.address(remote_id)

    async def live(self, since: datetime) -> tuple[LivePost, ...]:
        """Read the Page's feed."""
        return await self.page.feed(since)
