"""Instagram's feed: images, carousels and reels, from container to permalink."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest

from tests.sandbox.client import Answer, Client, Owner
from tests.sandbox.conftest import VIDEO, MediaServer

pytestmark = pytest.mark.anyio
CDN = "https://cdn.example"


@pytest.fixture
async def unchecked(client: Client) -> Client:
    """A client whose media is not fetched."""
    await client.use(check_media=False)
    return client


async def _create(client: Client, owner: Owner, **parameters: str) -> Answer:
    return await client.post(f"/{owner.id}/media", owner.token, **parameters)


async def _created(client: Client, owner: Owner, **parameters: str) -> str:
    answer = await _create(client, owner, **parameters)
    assert answer.status == 200, answer.body
    return str(answer.body["id"])


async def _read(client: Client, owner: Owner, media_id: str, fields: str) -> Any:
    answer = await client.get(f"/{media_id}", owner.token, fields=fields)
    assert answer.status == 200, answer.body
    return answer.body


@pytest.mark.parametrize("media_type", [None, "IMAGE"])
async def test_an_image_goes_to_the_feed(
    client: Client, instagram: Owner, media: MediaServer, media_type: str | None
) -> None:
    """With a caption, tags, a place and a text for those who can't see it; no story list shows it."""
    kind = {} if media_type is None else {"media_type": media_type}
    container_id = await _created(
        client,
        instagram,
        image_url=media["feed.jpg"],
        caption="Tomatoes #harvest @greenhouse",
        user_tags='[{"username":"gardener","x":0.5,"y":0.8}]',
        location_id="106078429431815",
        alt_text="Red tomatoes",
        collaborators='["neighbour"]',
        **kind,
    )
    published = await client.publish(instagram, container_id)
    media_id = published.body["id"]
    read = await _read(
        client, instagram, media_id, "permalink,shortcode,media_type,media_product_type,caption,alt_text,media_url"
    )
    assert read == {
        "permalink": f"https://www.instagram.com/p/{read['shortcode']}/",
        "shortcode": read["shortcode"],
        "media_type": "IMAGE",
        "media_product_type": "FEED",
        "caption": "Tomatoes #harvest @greenhouse",
        "alt_text": "Red tomatoes",
        "media_url": media["feed.jpg"],
        "id": media_id,
    }
    assert re.fullmatch(r"[A-Za-z0-9_-]{11}", read["shortcode"])
    listed = await client.get(f"/{instagram.id}/media", instagram.token)
    assert listed.body["data"] == [{"id": media_id}]
    assert (await client.get(f"/{instagram.id}/stories", instagram.token)).body == {"data": []}
    (live,) = (await client.control("GET", "live"))["live"]
    assert (live["kind"], live["text"]) == ("feed_photo", "Tomatoes #harvest @greenhouse")


@pytest.mark.parametrize("name", ["story.jpg", "wide.jpg"])
async def test_a_feed_image_has_a_ratio(client: Client, instagram: Owner, media: MediaServer, name: str) -> None:
    """From 4:5 to 1.91:1, else 36003/2207009; inside a carousel it is cropped."""
    assert (await _create(client, instagram, image_url=media[name])).codes == (400, 36003, 2207009)
    assert await _created(client, instagram, image_url=media[name], is_carousel_item="true")


async def test_a_png_may_fail_only_at_the_publish(client: Client, instagram: Owner, media: MediaServer) -> None:
    """With strict_formats off its container is FINISHED; whether it can be published is a switch."""
    await client.use(strict_formats=False, png_publishes=False)
    container_id = await _created(client, instagram, image_url=media["feed.png"])
    await client.status_code(instagram, container_id, "FINISHED")
    assert (await client.publish(instagram, container_id)).codes == (400, 36001, 2207005)
    await client.use(png_publishes=True)
    assert (await client.publish(instagram, container_id)).status == 200


@pytest.mark.parametrize(
    ("parameters", "codes"),
    [
        ({"caption": "x" * 2_201}, (400, 36004, 2207010)),
        ({"caption": "#a " * 31}, (400, 36004, 2207010)),
        ({"caption": "@a " * 21}, (400, 36004, 2207010)),
        ({"alt_text": "x" * 1_001}, (400, 100, None)),
        ({"location_id": "here"}, (400, 100, None)),
        ({"collaborators": "a,b,c,d"}, (400, 100, None)),
        ({"collaborators": "[1.5]"}, (400, 100, None)),
        ({"collaborators": "[broken"}, (400, 100, None)),
        ({"user_tags": "broken"}, (400, 100, None)),
        ({"user_tags": '{"username":"a"}'}, (400, 100, None)),
        ({"user_tags": '[{"x":0.5,"y":0.5}]'}, (400, 100, None)),
        ({"user_tags": '[{"username":"a"}]'}, (400, 100, None)),
        ({"user_tags": '[{"username":"a","x":0.5,"y":1.1}]'}, (400, 100, None)),
        ({"user_tags": '[{"username":"a","x":true,"y":1}]'}, (400, 100, None)),
        ({"image_url": ""}, (400, 100, None)),
    ],
)
async def test_what_a_feed_image_may_not_say(
    unchecked: Client, instagram: Owner, parameters: dict[str, str], codes: tuple[int, int, int | None]
) -> None:
    """Each bound of a caption, a tag, a place is told by its code."""
    refused = await _create(unchecked, instagram, **{"image_url": f"{CDN}/1.jpg", **parameters})
    assert refused.codes == codes


async def test_bounds_of_a_caption_are_inside(unchecked: Client, instagram: Owner) -> None:
    """2,200 characters, 30 hashtags and 20 mentions are taken; an address of mail is no mention."""
    caption = ("#a " * 30 + "@a " * 20 + "me@greenhouse.example ").ljust(2_200, "x")
    assert await _created(unchecked, instagram, image_url=f"{CDN}/1.jpg", caption=caption)


async def _items(client: Client, owner: Owner, count: int) -> list[str]:
    return [
        await _created(client, owner, image_url=f"{CDN}/{number}.jpg", is_carousel_item="true", alt_text=f"no {number}")
        for number in range(count)
    ]


@pytest.mark.parametrize("form", ["commas", "json"])
async def test_a_carousel_has_its_items_in_order(unchecked: Client, instagram: Owner, form: str) -> None:
    """Images and videos, by both forms of `children`; one post, one of the quota, and each item can be read."""
    items = await _items(unchecked, instagram, 2)
    items.append(
        await _created(unchecked, instagram, media_type="VIDEO", video_url=f"{CDN}/2.mp4", is_carousel_item="true")
    )
    children = ",".join(items) if form == "commas" else orjson.dumps(items).decode()
    parent = await _created(unchecked, instagram, media_type="CAROUSEL", children=children, caption="Three")
    published = await unchecked.publish(instagram, parent)
    media_id = published.body["id"]
    read = await _read(unchecked, instagram, media_id, "media_type,caption,children{media_type,media_url}")
    assert read == {
        "media_type": "CAROUSEL_ALBUM",
        "caption": "Three",
        "children": {
            "data": [
                {"media_type": "IMAGE", "media_url": f"{CDN}/0.jpg"},
                {"media_type": "IMAGE", "media_url": f"{CDN}/1.jpg"},
                {"media_type": "VIDEO", "media_url": f"{CDN}/2.mp4"},
            ]
        },
        "id": media_id,
    }
    edge = await unchecked.get(f"/{media_id}/children", instagram.token)
    bare = await _read(unchecked, instagram, media_id, "children")
    assert bare["children"] == edge.body
    first = await _read(unchecked, instagram, edge.body["data"][0]["id"], "alt_text")
    assert first["alt_text"] == "no 0"
    assert await unchecked.live_count() == 1
    assert await unchecked.live_count("/2.mp4") == 1
    limit = await unchecked.get(f"/{instagram.id}/content_publishing_limit", instagram.token)
    assert limit.body == {"data": [{"quota_usage": 1}]}
    unknown = await unchecked.get(f"/{media_id}", instagram.token, fields="children{nonsense}")
    assert unknown.codes == (400, 100, None)


async def test_a_carousel_has_2_to_10_items(unchecked: Client, instagram: Owner) -> None:
    """Fewer and more are 100/2207028; eleven containers were made for ten."""
    items = await _items(unchecked, instagram, 10)
    for count in (0, 1):
        refused = await _create(unchecked, instagram, media_type="CAROUSEL", children=",".join(items[:count]))
        assert refused.codes == (400, 100, 2207028)
    eleven = await _create(unchecked, instagram, media_type="CAROUSEL", children=",".join([*items, items[0]]))
    assert eleven.codes == (400, 100, 2207028)
    await unchecked.use(container_limit=11)
    assert await _created(unchecked, instagram, media_type="CAROUSEL", children=",".join(items))
    assert (await _create(unchecked, instagram, image_url=f"{CDN}/1.jpg")).codes == (400, 9, 2207042)


async def test_only_good_items_make_a_carousel(unchecked: Client, instagram: Owner) -> None:
    """Unknown, foreign, expired and single containers are refused, and tags belong on items."""
    old, good = await _items(unchecked, instagram, 2)
    single = await _created(unchecked, instagram, image_url=f"{CDN}/1.jpg")
    other = await unchecked.owner("instagram", token=instagram.token)
    (foreign, _) = await _items(unchecked, other, 2)
    for child_id in ("17889455560051444", foreign):
        refused = await _create(unchecked, instagram, media_type="CAROUSEL", children=f"{good},{child_id}")
        assert refused.codes == (400, 24, 2207008)
    not_item = await _create(unchecked, instagram, media_type="CAROUSEL", children=f"{good},{single}")
    assert not_item.codes == (400, 100, None)
    tagged = await _create(unchecked, instagram, media_type="CAROUSEL", children=f"{good},{old}", user_tags="[]x")
    assert tagged.codes == (400, 100, 2207065)
    assert (await unchecked.publish(instagram, good)).codes == (400, 100, None)
    await unchecked.advance(86_400)
    expired = await _create(unchecked, instagram, media_type="CAROUSEL", children=f"{good},{old}")
    assert expired.codes == (400, 24, 2207008)


async def test_a_carousel_waits_for_its_items_and_fails_with_them(
    client: Client, instagram: Owner, media: MediaServer
) -> None:
    """It is IN_PROGRESS as long as an item is, and in ERROR with the item's number."""
    await client.use(video_seconds=[60, 60])
    image = await _created(client, instagram, image_url=media["feed.jpg"], is_carousel_item="true")
    video = await _created(client, instagram, media_type="VIDEO", video_url=media["story.mp4"], is_carousel_item="1")
    parent = await _created(client, instagram, media_type="CAROUSEL", children=f"{image},{video}")
    await client.status_code(instagram, parent, "IN_PROGRESS")
    assert (await client.publish(instagram, parent)).codes == (400, 9007, 2207027)
    await client.advance(61)
    await client.status_code(instagram, parent, "FINISHED")
    bad = await _created(client, instagram, media_type="VIDEO", video_url=media["text.mp4"], is_carousel_item="true")
    failed = await _created(client, instagram, media_type="CAROUSEL", children=f"{image},{bad}")
    status = await client.status_code(instagram, failed, "ERROR")
    assert status.body["status"].endswith("error code 2207026")


async def test_a_reel_goes_live(client: Client, instagram: Owner, media: MediaServer) -> None:
    """With a cover; `share_to_feed` is read back, and the permalink is a reel's."""
    container_id = await _created(
        client,
        instagram,
        media_type="REELS",
        video_url=media["story.mp4"],
        cover_url=media["story.jpg"],
        share_to_feed="false",
        thumb_offset="2000",
        caption="Moving",
        trial_params='{"graduation_strategy":"MANUAL"}',
    )
    await client.status_code(instagram, container_id, "FINISHED")
    media_id = (await client.publish(instagram, container_id)).body["id"]
    read = await _read(
        client, instagram, media_id, "permalink,media_product_type,media_type,is_shared_to_feed,thumbnail_url"
    )
    assert read["permalink"].startswith("https://www.instagram.com/reel/")
    assert (read["media_product_type"], read["media_type"]) == ("REELS", "VIDEO")
    assert (read["is_shared_to_feed"], read["thumbnail_url"]) == (False, media["story.jpg"])
    assert [row["kind"] for row in (await client.control("GET", "live"))["live"]] == ["reel"]


@pytest.mark.parametrize(
    ("parameters", "codes"),
    [
        ({"thumb_offset": "-1"}, (400, 1, 2207057)),
        ({"thumb_offset": "900001"}, (400, 1, 2207057)),
        ({"thumb_offset": "soon"}, (400, 100, None)),
        ({"trial_params": '{"graduation_strategy":"SOON"}'}, (400, 100, None)),
        ({"trial_params": "broken"}, (400, 100, None)),
        ({"is_carousel_item": "true"}, (400, 100, None)),
        ({"alt_text": "a"}, (400, 100, None)),
        ({"upload_type": "torrent"}, (400, 100, None)),
        ({"upload_type": "resumable"}, (400, 100, None)),
        ({"video_url": "", "image_url": f"{CDN}/1.jpg"}, (400, 100, None)),
    ],
)
async def test_what_a_reel_may_not_be(
    unchecked: Client, instagram: Owner, parameters: dict[str, str], codes: tuple[int, int, int | None]
) -> None:
    """Each bound is told by its code."""
    given = {"media_type": "REELS", "video_url": f"{CDN}/1.mp4", **parameters}
    assert (await _create(unchecked, instagram, **given)).codes == codes


async def test_a_reels_files_are_checked(client: Client, instagram: Owner, media: MediaServer) -> None:
    """A bad cover is refused at once; an offset behind the end shows in the status."""
    bad = await _create(
        client, instagram, media_type="REELS", video_url=media["story.mp4"], cover_url=media["missing.jpg"]
    )
    assert bad.codes == (400, 9004, 2207052)
    late = await _created(client, instagram, media_type="REELS", video_url=media["story.mp4"], thumb_offset="4500")
    status = await client.status_code(instagram, late, "ERROR")
    assert status.body["status"].endswith("error code 2207057")


async def _started(client: Client, owner: Owner, media_type: str = "STORIES", **more: str) -> tuple[str, str]:
    answer = await _create(client, owner, media_type=media_type, upload_type="resumable", **more)
    assert set(answer.body) == {"id", "uri"}
    assert answer.body["uri"] == f"{client.url}/ig-api-upload/v25.0/{answer.body['id']}"
    return answer.body["id"], answer.body["uri"]


async def test_a_video_is_sent_in_parts(client: Client, instagram: Owner) -> None:
    """What arrived is kept: `bytes_transferred` says from where to go on."""
    content = VIDEO.read_bytes()
    container_id, uri = await _started(client, instagram)
    head = {"Authorization": f"OAuth {instagram.token}", "file_size": str(len(content))}
    cut = await client.send("POST", uri, data=content[:1_000], headers={**head, "offset": "0"})
    assert (cut.status, cut.body["debug_info"]["type"]) == (400, "PartialRequestError")
    read = await _read(client, instagram, container_id, "status_code,video_status")
    assert read["status_code"] == "IN_PROGRESS"
    assert read["video_status"] == {
        "uploading_phase": {"status": "in_progress", "bytes_transferred": 1_000},
        "processing_phase": {"status": "not_started"},
    }
    rest = await client.send("POST", uri, data=content[1_000:], headers={**head, "offset": "1000"})
    assert rest.body == {"success": True, "message": "Upload successful."}
    await client.status_code(instagram, container_id, "FINISHED")
    assert (await client.publish(instagram, container_id)).status == 200
    assert await client.live_count() == 1


@pytest.mark.parametrize(
    ("name", "status_code"), [("story.mp4", "FINISHED"), ("text.mp4", "ERROR"), ("missing.mp4", "ERROR")]
)
async def test_a_video_is_fetched_by_the_upload_host(
    client: Client, instagram: Owner, media: MediaServer, name: str, status_code: str
) -> None:
    """With a `file_url` header and no body; what is wrong shows in the status."""
    container_id, uri = await _started(client, instagram, "REELS")
    headers = {"Authorization": f"OAuth {instagram.token}", "file_url": media[name]}
    assert (await client.send("POST", uri, headers=headers)).status == 200
    await client.status_code(instagram, container_id, status_code)


async def test_a_carousel_item_is_sent_too(unchecked: Client, instagram: Owner) -> None:
    """A VIDEO item may be uploaded; a container made from a URL takes no file, and no foreign token."""
    _, uri = await _started(unchecked, instagram, "VIDEO", is_carousel_item="true")
    headers = {"Authorization": f"OAuth {instagram.token}", "file_url": f"{CDN}/1.mp4"}
    stranger = await unchecked.owner("instagram")
    foreign = await unchecked.send("POST", uri, headers=headers | {"Authorization": f"OAuth {stranger.token}"})
    assert "unauthorized user request" in foreign.body["debug_info"]["message"]
    by_url = await _created(unchecked, instagram, media_type="REELS", video_url=f"{CDN}/1.mp4")
    refused = await unchecked.send("POST", f"/ig-api-upload/v25.0/{by_url}", headers=headers)
    assert "unauthorized user request" in refused.body["debug_info"]["message"]
    assert (await unchecked.send("POST", uri, headers=headers)).status == 200


async def test_media_is_listed_page_by_page(unchecked: Client, instagram: Owner) -> None:
    """Newest first, by `paging.next` to the end and back by `previous`; since and until cut it; no stories."""
    published = []
    for number in range(5):
        container_id = await _created(unchecked, instagram, image_url=f"{CDN}/{number}.jpg")
        published.append((await unchecked.publish(instagram, container_id)).body["id"])
        await unchecked.advance(100)
    await unchecked.publish(instagram, await unchecked.container(instagram, f"{CDN}/9.jpg"))
    answer = await unchecked.get(
        f"/v26.0/{instagram.id}/media", None, access_token=instagram.token, limit="2", fields="timestamp"
    )
    pages = [[row["id"] for row in answer.body["data"]]]
    while "next" in answer.body["paging"]:
        assert answer.body["paging"]["next"].startswith(f"{unchecked.url}/v26.0/{instagram.id}/media?")
        answer = await unchecked.send("GET", answer.body["paging"]["next"])
        pages.append([row["id"] for row in answer.body["data"]])
    newest_first = published[::-1]
    assert pages == [newest_first[:2], newest_first[2:4], newest_first[4:]]
    back = await unchecked.send("GET", answer.body["paging"]["previous"])
    assert [row["id"] for row in back.body["data"]] == newest_first[2:4]
    now = int((await unchecked.control("GET", "clock"))["now"])
    recent = await unchecked.get(f"/{instagram.id}/media", instagram.token, since=str(now - 250))
    assert [row["id"] for row in recent.body["data"]] == newest_first[:2]
    older = await unchecked.get(f"/{instagram.id}/media", instagram.token, until=str(now - 250))
    assert [row["id"] for row in older.body["data"]] == newest_first[2:]


async def test_the_feed_lags_by_a_switch(unchecked: Client, instagram: Owner) -> None:
    """A post is listed after the lag, and can be read at once."""
    await unchecked.use(feed_lag_seconds=30)
    container_id = await _created(unchecked, instagram, image_url=f"{CDN}/1.jpg")
    media_id = (await unchecked.publish(instagram, container_id)).body["id"]
    path = f"/{instagram.id}/media"
    assert (await unchecked.get(path, instagram.token)).body == {"data": []}
    assert (await unchecked.get(f"/{media_id}", instagram.token)).status == 200
    await unchecked.advance(31)
    assert len((await unchecked.get(path, instagram.token)).body["data"]) == 1


async def test_stories_count_against_the_quota_by_a_switch(unchecked: Client) -> None:
    """Meta says "posts": by default a story is one."""
    owner = await unchecked.owner("instagram", quota_total=1)
    first, second = [await unchecked.container(owner, f"{CDN}/{number}.jpg") for number in (1, 2)]
    await unchecked.publish(owner, first)
    assert (await unchecked.publish(owner, second)).codes == (400, 9, 2207042)
    await unchecked.use(stories_count=False)
    assert (await unchecked.publish(owner, second)).status == 200
    limit = await unchecked.get(f"/{owner.id}/content_publishing_limit", owner.token)
    assert limit.body == {"data": [{"quota_usage": 1}]}


async def test_a_containers_reading_is_a_matter_of_switches(unchecked: Client, instagram: Owner) -> None:
    """Default fields, the text of EXPIRED, and how long a published one can be read."""
    container_id = await unchecked.container(instagram, f"{CDN}/1.jpg")
    old = await unchecked.container(instagram, f"{CDN}/2.jpg")
    bare = await unchecked.get(f"/{container_id}", instagram.token)
    assert bare.body == {"status_code": "FINISHED", "id": container_id}
    await unchecked.use(container_default_fields="id", expired_text="Expired.", published_readable_seconds=60)
    assert (await unchecked.get(f"/{container_id}", instagram.token)).body == {"id": container_id}
    await unchecked.publish(instagram, container_id)
    await unchecked.status_code(instagram, container_id, "PUBLISHED")
    await unchecked.advance(61)
    assert (await unchecked.get(f"/{container_id}", instagram.token)).codes == (400, 100, 33)
    await unchecked.advance(86_400)
    assert (await unchecked.status_code(instagram, old, "EXPIRED")).body["status"] == "Expired."
