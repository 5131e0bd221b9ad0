"""What is performed, and the media that it needs."""

from __future__ import annotations

import io
from collections import Counter
from importlib.resources import files

import pytest

from publisher.sandbox.decoders import PAGE_PHOTO, PAGE_VIDEO, STORY_IMAGE, STORY_VIDEO
from relay.demo import pictures
from relay.demo.script import ACCOUNTS, STORIES, TROUBLES, Fate


def test_there_are_forty_stories_for_four_accounts() -> None:
    """Two accounts of each platform, ten stories each, images and videos."""
    assert [story.number for story in STORIES] == list(range(1, 41))
    assert Counter(account.platform for account in ACCOUNTS) == {"instagram": 2, "facebook": 2}
    assert set(Counter(story.account for story in STORIES).values()) == {10}
    assert {story.media_type for story in STORIES} == {"image", "video"}
    assert Counter(story.fate for story in STORIES) == {Fate.PUBLISHED: 38, Fate.DEAD: 1, Fate.ROLLED_BACK: 1}


def test_a_fault_hits_its_own_story_alone() -> None:
    """No media's name is part of another one's: faults are chosen by a part of the URL."""
    names = [story.file_name for story in STORIES]
    assert all(sum(name in other for other in names) == 1 for name in names)
    assert len({trouble.number for trouble in TROUBLES}) == len(TROUBLES)


def test_a_sequence_stays_on_one_account() -> None:
    """Slides of one story are of one account: only there is their order kept."""
    sequences = {story.sequence for story in STORIES} - {None}
    assert len(sequences) == 2
    for sequence in sequences:
        assert len({story.account for story in STORIES if story.sequence == sequence}) == 1


def test_the_pictures_are_what_both_platforms_take() -> None:
    """A drawn picture is a JPEG that the sandbox accepts."""
    content = pictures.draw(7, "Harbour Bikes")
    assert STORY_IMAGE.decode(io.BytesIO(content)).problem is None
    assert PAGE_PHOTO.decode(io.BytesIO(content)).problem is None


@pytest.mark.parametrize("name", ["story-1.mp4", "story-2.mp4"])
def test_the_videos_are_what_both_platforms_take(name: str) -> None:
    """A video of the package is small and one that the sandbox accepts."""
    content = (files("relay.demo") / "media" / name).read_bytes()
    assert len(content) < 60_000
    assert STORY_VIDEO.decode(io.BytesIO(content)).problem is None
    assert PAGE_VIDEO.decode(io.BytesIO(content)).problem is None
