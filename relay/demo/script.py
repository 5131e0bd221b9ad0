"""What is performed: four accounts, forty stories, and what goes wrong with some of them. Data, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

Platform = Literal["instagram", "facebook"]
MediaType = Literal["image", "video"]

STORY_COUNT = 40


class Fate(StrEnum):
    """What has to become of a story."""

    PUBLISHED = "published"
    DEAD = "dead"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True, slots=True)
class Account:
    """A publishing account."""

    platform: Platform
    name: str


@dataclass(frozen=True, slots=True)
class Story:
    """One variant that the application creates.

    Attributes:
        number: 1 to 40, in the order of creation.
        account: Where it is published.
        media_type: What it shows.
        sequence: Stories of one sequence go live in the order of their numbers.
        ahead_seconds: Its publish_at is this long after its creation; None publishes at once.
        is_drafted: It is inserted as a draft, and approved in a transaction of its own.
        fate: What has to become of it.
    """

    number: int
    account: Account
    media_type: MediaType = "image"
    sequence: str | None = None
    ahead_seconds: float | None = None
    is_drafted: bool = False
    fate: Fate = Fate.PUBLISHED

    @property
    def file_name(self) -> str:
        """The last part of its media URL; nothing is there for one that must die."""
        stem = "missing" if self.fate is Fate.DEAD else "story"
        return f"{stem}-{self.number:02}.{'jpg' if self.media_type == 'image' else 'mp4'}"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault of the Graph API that one story meets.

    Attributes:
        number: The story's.
        endpoint: The sandbox's name of the call that is hit.
        fault: The other fields of the sandbox's fault.
        loses_answer: The story goes live, and the relay is not told.
    """

    number: int
    endpoint: str
    fault: dict[str, Any]
    loses_answer: bool = False


BAKERY = Account("instagram", "nordlys.bakery")
BAKERY_PAGE = Account("facebook", "Nordlys Bakery")
BIKES = Account("instagram", "harbour.bikes")
BIKES_PAGE = Account("facebook", "Harbour Bikes")
ACCOUNTS = (BAKERY, BAKERY_PAGE, BIKES, BIKES_PAGE)

VIDEOS = frozenset({6, 9, 16, 19, 26, 29, 31, 36})
SLIDES = {**dict.fromkeys((6, 10, 14), "autumn menu"), **dict.fromkeys((7, 11, 15), "opening day")}
SCHEDULED = {5: 13.0, 12: 11.0, 18: 9.0, 23: 8.0, 28: 7.0}
DRAFTED = frozenset({4, 20, 32, 39})
FATES = {22: Fate.ROLLED_BACK, 27: Fate.DEAD}

# A story appears in the lists of stories a moment after it went live: one answer that is lost at once can't be found
# at the first look, the other two can.
STORIES_LAG_SECONDS = 0.6
LISTED_BY_THEN_SECONDS = 0.9

TROUBLES = (
    Trouble(
        3,
        "publish_container",
        {"action": "apply_then_drop", "delay_seconds": LISTED_BY_THEN_SECONDS},
        loses_answer=True,
    ),
    Trouble(7, "publish_container", {"code": 9007, "subcode": 2207027}),
    Trouble(8, "publish_photo_story", {"action": "apply_then_drop"}, loses_answer=True),
    Trouble(
        13,
        "create_container",
        {
            "code": 80002,
            "message": "(#80002) There have been too many calls to this Instagram account. Wait a bit and try again.",
            "usage": {"call_count": 100},
        },
    ),
    Trouble(
        21,
        "publish_container",
        {"action": "apply_then_error", "code": 4, "subcode": 2207051, "delay_seconds": LISTED_BY_THEN_SECONDS},
        loses_answer=True,
    ),
    Trouble(30, "upload_photo", {"code": 324, "subcode": 2069019}),
)


def _story(number: int) -> Story:
    return Story(
        number=number,
        account=ACCOUNTS[(number - 1) % len(ACCOUNTS)],
        media_type="video" if number in VIDEOS else "image",
        sequence=SLIDES.get(number),
        ahead_seconds=SCHEDULED.get(number),
        is_drafted=number in DRAFTED,
        fate=FATES.get(number, Fate.PUBLISHED),
    )


STORIES = tuple(_story(number) for number in range(1, STORY_COUNT + 1))
