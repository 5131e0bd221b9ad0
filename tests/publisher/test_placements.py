"""Each placement with all that it takes: what was asked for is what is live, at the sandbox."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.types.json import Jsonb

from outbox.event import Event
from outbox.outcome import Dead, Defer, Published
from publisher.media.rules import kinds_of
from publisher.placements import PLACEMENTS
from tests.publisher.stage import Stage

pytestmark = pytest.mark.anyio
TAGS = [{"username": "gardener", "x": 0.5, "y": 0.8}]
SOMEBODY = [{"username": "gardener"}]
WORDS = {"caption": "Ripe at last", "collaborators": ["a", "b"], "location_id": "7"}


async def live(stage: Stage, event: Event) -> dict[str, Any]:
    """Publish, and return the row of what went live."""
    play = await stage.play(event)
    assert isinstance(play.end, Published), play.outcomes
    row: dict[str, Any] = (await stage.graph.control("GET", "live"))["live"][-1]
    return row


async def test_the_rules_of_placements_are_one_table(stage: Stage) -> None:
    """What the publisher places is what the database lets in, and media rules are there for what it shows."""
    rows = await stage.rows("select platform, placement, kinds from social.placements")
    placements: dict[str, set[str]] = {}
    for platform, placement, kinds in rows:
        placements.setdefault(platform, set()).add(placement)
        assert sorted(kinds_of(platform, placement)) == sorted(kinds), (platform, placement)
    assert placements == PLACEMENTS


async def test_what_a_variant_has_besides_its_media_is_live_on_instagram(stage: Stage) -> None:
    """Tags, alternative texts, places, authors and covers arrive as they were given."""
    image, video = f"{stage.media_url}/story.jpg", f"{stage.media_url}/story.mp4"
    story = await stage.create("instagram", media_url=image, user_tags=Jsonb(SOMEBODY))
    assert (await live(stage, story))["details"] == {"user_tags": SOMEBODY}
    feed = await stage.create(
        "instagram", placement="feed", media_url=image, alt_text="Tomatoes", user_tags=Jsonb(TAGS), **WORDS
    )
    assert (await live(stage, feed))["details"] == {
        **WORDS,
        "alt_text": "Tomatoes",
        "user_tags": TAGS,
    }
    covered = await stage.create(
        "instagram",
        placement="reel",
        media_url=video,
        cover_url=image,
        share_to_feed=False,
        user_tags=Jsonb(SOMEBODY),
        **WORDS,
    )
    assert (await live(stage, covered))["details"] == {
        **WORDS,
        "cover_url": image,
        "share_to_feed": False,
        "user_tags": SOMEBODY,
    }
    thumb = await stage.create("instagram", placement="reel", media_url=video, thumb_offset_ms=1_500)
    assert (await live(stage, thumb))["details"] == {"thumb_offset": 1_500}
    media = [
        {"kind": "image", "url": image, "alt_text": "Tomatoes", "user_tags": TAGS},
        {"kind": "video", "url": video, "user_tags": SOMEBODY},
    ]
    carousel = await live(stage, await stage.create("instagram", placement="carousel", media=Jsonb(media), **WORDS))
    assert carousel["details"] == {**WORDS}
    assert [(shown["media"], shown["details"]) for shown in carousel["shows"]] == [
        (image, {"alt_text": "Tomatoes", "user_tags": TAGS}),
        (video, {"user_tags": SOMEBODY}),
    ]


async def test_what_a_variant_has_besides_its_media_is_live_on_a_page(stage: Stage) -> None:
    """Alternative texts, titles and links too."""
    image, video = f"{stage.media_url}/story.jpg", f"{stage.media_url}/story.mp4"
    photo = await live(
        stage, await stage.create("facebook", placement="photo", media_url=image, alt_text="Tomatoes", caption="Ripe")
    )
    assert (photo["text"], photo["shows"][0]["details"]["alt_text"]) == ("Ripe", "Tomatoes")
    media = [{"kind": "image", "url": image, "alt_text": text} for text in ("Red", "Green")]
    photos = await live(stage, await stage.create("facebook", placement="photos", media=Jsonb(media)))
    assert [shown["details"]["alt_text"] for shown in photos["shows"]] == ["Red", "Green"]
    for placement in ("video", "reel"):
        event = await stage.create("facebook", placement=placement, media_url=video, video_title="Soil", caption="Ripe")
        details = (await live(stage, event))["details"]
        assert (details["title"], details["caption"]) == ("Soil", "Ripe"), placement
    post = await live(stage, await stage.create("facebook", placement="post", link="https://garden.example/1"))
    assert (post["link"], post["text"]) == ("https://garden.example/1", None)


async def test_the_bytes_of_a_pages_photos_are_sent_where_that_is_asked_for(stage: Stage) -> None:
    """Stories, one photo and several: Meta never fetches them, and keeps the file's name."""
    image = f"{stage.media_url}/story.jpg"
    listed = [{"kind": "image", "url": image, "upload": True}, {"kind": "image", "url": image}]
    story = await live(stage, await stage.create("facebook", media_url=image, upload=True))
    photo = await live(stage, await stage.create("facebook", placement="photo", media_url=image, upload=True))
    photos = await live(stage, await stage.create("facebook", placement="photos", media=Jsonb(listed)))
    assert [story["media_urls"], photo["media_urls"], photos["media_urls"]] == [
        ["story.jpg"],
        ["story.jpg"],
        ["story.jpg", image],
    ]
    assert [story["kind"], photo["kind"], photos["kind"]] == ["photo_story", "feed_photo", "feed_photo"]


async def test_a_photo_that_is_sent_in_vain_is_sent_again(stage: Stage) -> None:
    """A lost answer leaves a photo that nobody sees; a host that says no is an attempt, and no call is made."""
    image = f"{stage.media_url}/story.jpg"
    event = await stage.create("facebook", placement="photo", media_url=image, upload=True)
    await stage.graph.fault("upload_photo", "apply_then_drop")
    play = await stage.play(event)
    assert [type(outcome) for outcome in play.outcomes] == [Defer, Published]
    gone = await stage.create("facebook", placement="photo", media_url=f"{stage.media_url}/none.jpg", upload=True)
    assert isinstance((await stage.play(gone)).end, Dead)
    assert await stage.live_count() == 1


async def test_a_carousel_that_went_live_without_a_child_is_told(stage: Stage) -> None:
    """It is published and can't be taken back: the result, the log and a counter say what is missing."""
    await stage.graph.use(carousel_items_lost=1)
    ends = [(await stage.play(await stage.approve(kind))).end for kind in ("instagram feed", "instagram carousel")]
    assert [isinstance(end, Published) and end.result.get("missing_count") for end in ends] == [None, 1]
    assert stage.metric("outbox_incomplete_posts_total") == 1
