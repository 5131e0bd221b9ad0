"""One variant of each placement: what to create it with, and which calls of the sandbox it takes.

    statement, arguments = KIND["instagram carousel"].variant("instagram:1784...", "http://127.0.0.1:8000", "7")

creates a variant that shows `/7.jpg` and `/7.mp4` of that host; every post that comes of it can be counted in the
sandbox by `media=/7.`, or for a post, which has a text alone, by its text. A picture of 4:5 and
`tests/sandbox/media/story.mp4` suit every placement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, LiteralString

import orjson

CREATE: LiteralString = """
select social.create_variant(
  account => %(account)s, placement => %(placement)s, media_url => %(media_url)s, media_type => %(media_type)s,
  media => %(media)s::jsonb, caption => %(caption)s, upload => %(upload)s, sequence => %(sequence)s,
  expires_at => clock_timestamp() + %(expires_seconds)s * interval '1 second'
)
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """A placement with media of a kind.

    Attributes:
        name: For people and parameters of tests.
        placement: As in `social.content_variants`.
        shows: The endings of its media, in order.
        calls: The sandbox's names of the calls that it takes, in order, each once.
        publishing: The one that can't be taken back.
        upload: The relay sends the bytes.
        steps: The names of the steps before the intent.
    """

    name: str
    placement: str
    shows: tuple[str, ...]
    calls: tuple[str, ...]
    publishing: str
    steps: tuple[str, ...]
    upload: bool = False

    @property
    def platform(self) -> str:
        """The first word of its name."""
        return self.name.partition(" ")[0]

    @property
    def preparing(self) -> str | None:
        """The first call, where that is not the one that publishes."""
        return self.calls[0] if self.steps else None

    def variant(
        self,
        account: str,
        media_host: str,
        name: str,
        *,
        sequence: str | None = None,
        expires_seconds: float | None = None,
    ) -> tuple[LiteralString, dict[str, Any]]:
        """Return the statement that creates a variant and returns its id, and its arguments."""
        urls = [f"{media_host}/{name}.{ending}" for ending in self.shows]
        kinds = ["image" if ending == "jpg" else "video" for ending in self.shows]
        is_list = self.placement in {"carousel", "photos"}
        media = [{"kind": kind, "url": url} for kind, url in zip(kinds, urls, strict=True)]
        has_one = bool(urls) and not is_list
        return CREATE, {
            "account": account,
            "placement": self.placement,
            "media_url": urls[0] if has_one else None,
            "media_type": kinds[0] if has_one else None,
            "media": orjson.dumps(media).decode() if is_list else None,
            "caption": None if self.placement == "story" else f"Ripe: {name}",
            "upload": self.upload,
            "sequence": sequence,
            "expires_seconds": expires_seconds,
        }


_CONTAINER = ("create_container", "container_status")
_PUBLISH = ("publish_container", "read_media")

STORIES = (
    Kind(
        "instagram image",
        "story",
        ("jpg",),
        (*_CONTAINER, "list_stories", *_PUBLISH),
        "publish_container",
        ("container",),
    ),
    Kind(
        "instagram video",
        "story",
        ("mp4",),
        (*_CONTAINER, "list_stories", *_PUBLISH),
        "publish_container",
        ("container",),
    ),
    Kind(
        "facebook image",
        "story",
        ("jpg",),
        ("upload_photo", "publish_photo_story", "list_stories"),
        "publish_photo_story",
        ("photo",),
    ),
    Kind(
        "facebook video",
        "story",
        ("mp4",),
        ("start_video_story", "upload_video", "video_status", "finish_video_story", "list_stories"),
        "finish_video_story",
        ("video",),
    ),
)

POSTS = (
    Kind(
        "instagram feed", "feed", ("jpg",), (*_CONTAINER, "list_media", *_PUBLISH), "publish_container", ("container",)
    ),
    Kind(
        "instagram carousel",
        "carousel",
        ("jpg", "mp4", "jpg"),
        (*_CONTAINER, "list_media", *_PUBLISH),
        "publish_container",
        ("child 1", "child 2", "child 3", "container"),
    ),
    Kind(
        "instagram reel", "reel", ("mp4",), (*_CONTAINER, "list_media", *_PUBLISH), "publish_container", ("container",)
    ),
    Kind(
        "instagram uploaded reel",
        "reel",
        ("mp4",),
        ("create_container", "container_status", "upload_container", "list_media", *_PUBLISH),
        "publish_container",
        ("container", "upload"),
        upload=True,
    ),
    Kind("facebook post", "post", (), ("list_feed", "create_post", "read_post"), "create_post", ()),
    Kind(
        "facebook photo", "photo", ("jpg",), ("upload_photo", "create_post", "read_post"), "create_post", ("photo 1",)
    ),
    Kind(
        "facebook photos",
        "photos",
        ("jpg", "jpg"),
        ("upload_photo", "create_post", "read_post"),
        "create_post",
        ("photo 1", "photo 2"),
    ),
    Kind(
        "facebook feed video",
        "video",
        ("mp4",),
        ("start_video", "video_status", "transfer_video", "finish_video"),
        "finish_video",
        ("video", "upload"),
    ),
    Kind(
        "facebook reel",
        "reel",
        ("mp4",),
        ("start_reel", "upload_video", "video_status", "finish_reel"),
        "finish_reel",
        ("video",),
    ),
    Kind(
        "facebook uploaded reel",
        "reel",
        ("mp4",),
        ("start_reel", "video_status", "upload_video", "finish_reel"),
        "finish_reel",
        ("video", "upload"),
        upload=True,
    ),
)


def name_of(post: Mapping[str, Any]) -> str:
    """Return the name of the variant behind a row of the sandbox's list of what is live."""
    text, media = post["text"], post["media"]
    return str(text).removeprefix("Ripe: ") if text else str(media).rpartition("/")[2].partition(".")[0]


KIND = {kind.name: kind for kind in (*STORIES, *POSTS)}
ALL = tuple(KIND)
NAMES_OF_STORIES = tuple(kind.name for kind in STORIES)
NAMES_OF_POSTS = tuple(kind.name for kind in POSTS)
