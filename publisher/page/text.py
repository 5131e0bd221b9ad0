"""Posts of a Facebook Page without media: a text, a link, or both (Meta: Pages posts; sheet 2.4).

    POST /{page}/feed message, link    -> post     irreversible
    GET  /{page}/feed                              what is live, with its text

There is no handle before the call: the post is known by its text, among those that were not there before and show no
photo or video. Those of other events are remembered by their photo or video, not by their post. Where another new post
without either is there with another text, that may be ours as Meta changed it, and a person decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from publisher.envelope import required_id
from publisher.page.post import PagePost
from publisher.placement import Endpoint, HandleState, HandleStatus, Prepared, Sight


@dataclass(frozen=True, slots=True)
class TextPost(PagePost):
    """A text, a link, or both."""

    link: str | None

    async def publish(self, prepared: Sequence[Prepared]) -> str | None:  # noqa: ARG002
        """Post it."""
        page = self.page
        parameters = {name: value for name, value in (("message", self.text), ("link", self.link)) if value}
        answer = await page.graph.post(Endpoint.FEED_POST, f"{page.id}/feed", page.token, parameters)
        return required_id(Endpoint.FEED_POST, answer, "id")

    async def look(self, handles: Sequence[str], since: datetime) -> Sight:  # noqa: ARG002
        """Read the Page's feed."""
        return Sight(HandleStatus(HandleState.READY), await self.live(since), only_listed=True)
