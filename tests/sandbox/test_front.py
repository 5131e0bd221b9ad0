"""The page at `/`: what it shows, that it escapes everything, and that only its own buttons work."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from tests.sandbox.client import Answer, Client, Owner

pytestmark = pytest.mark.anyio
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
NASTY = "\"><script>alert('x')</script><img src=x onerror=alert(1)>"
_ELEMENTS = {
    *("html", "head", "meta", "title", "link", "body", "header", "main", "section", "article", "div", "form"),
    *("h1", "h2", "h3", "p", "a", "b", "button", "span", "strong", "code", "dl", "dt", "dd", "progress"),
    *("table", "thead", "tbody", "tr", "th", "td", "img", "video"),
}


class _Elements(HTMLParser):
    """Collects elements, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.names.add(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data: str) -> None:
        """Note its text."""
        self.words.append(data)


@pytest.fixture
async def unchecked(client: Client) -> Client:
    """A client whose media is not fetched."""
    await client.use(check_media=False)
    return client


async def _page(client: Client, path: str = "/") -> tuple[Answer, _Elements, str]:
    answer = await client.send("GET", path, headers=HTML)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    parser = _Elements()
    parser.feed(answer.body)
    return answer, parser, " ".join(parser.words)


async def test_only_a_browser_gets_the_page(client: Client, instagram: Owner) -> None:
    """Without a wish for HTML, or with a token, `/` is Graph's."""
    assert (await client.get("/")).codes == (400, 190, None)
    for more in ({"headers": HTML | {"Authorization": f"Bearer {instagram.token}"}}, {"params": {"access_token": "a"}}):
        answer = await client.send("GET", "/", **{"headers": HTML, **more})
        assert answer.status == 400
    assert (await client.send("POST", "/", headers=HTML)).codes == (400, 190, None)


async def test_an_empty_sandbox_says_what_to_do(client: Client) -> None:
    """Each section says that it has nothing."""
    _, _, words = await _page(client)
    for told in (
        "No story is live.",
        "POST /_sandbox/accounts adds one.",
        "Nothing was called.",
        "No fault is scripted",
    ):
        assert told in words


async def test_it_shows_what_is_live(unchecked: Client, instagram: Owner, page: Owner) -> None:
    """Stories with their pictures, posts with their words, containers, calls and faults."""
    await unchecked.fault("read_account", "error", code=4, times=None)
    await unchecked.get(f"/{page.id}", page.token)
    await unchecked.publish(instagram, await unchecked.container(instagram, "https://cdn.example/story.jpg?a=1&b=2"))
    await unchecked.post(f"/{page.id}/feed", page.token, message="Good morning", link="https://greenhouse.example/")
    await unchecked.use(chances={"dropped": 1, "endpoints": ["list_feed"]})
    _, elements, words = await _page(unchecked)
    assert ("img", "src", "https://cdn.example/story.jpg?a=1&b=2") in elements.attributes
    for shown in ("photo story", "Good morning", "feed text", "PUBLISHED", "create_container", "publish_container"):
        assert shown in words
    assert "1 of 100 in 24 h" in words
    assert re.search(r"fault-[0-9a-f]{8}", words)
    await unchecked.advance(86_400)
    _, elements, words = await _page(unchecked)
    assert not [name for name in elements.names if name == "img"]
    assert "24.0 h ahead" in words


async def test_it_shows_videos_carousels_and_files(unchecked: Client, instagram: Owner) -> None:
    """A video as a video, its cover where it has one, a carousel with its count, and no picture of what has no URL."""
    path = f"/{instagram.id}/media"
    reel = {"media_type": "REELS", "video_url": "https://cdn.example/1.mp4"}
    for given in (reel, reel | {"cover_url": "https://cdn.example/cover.jpg"}):
        created = await unchecked.post(path, instagram.token, **given)
        await unchecked.publish(instagram, created.body["id"])
    items = [
        (await unchecked.post(path, instagram.token, image_url=f"https://cdn.example/{at}.jpg", is_carousel_item="1"))
        for at in range(3)
    ]
    children = ",".join(item.body["id"] for item in items)
    parent = await unchecked.post(path, instagram.token, media_type="CAROUSEL", children=children)
    await unchecked.publish(instagram, parent.body["id"])
    odd = await unchecked.post(path, instagram.token, image_url="javascript:alert(1)")
    await unchecked.publish(instagram, odd.body["id"])
    _, elements, words = await _page(unchecked)
    sources = [value for tag, name, value in elements.attributes if name == "src"]
    assert sorted(map(str, sources)) == [
        "https://cdn.example/0.jpg",
        "https://cdn.example/1.mp4",
        "https://cdn.example/cover.jpg",
    ]
    assert "1/3" in words


async def test_no_secret_is_on_it(unchecked: Client, instagram: Owner) -> None:
    """A token is masked, also where it was sent in a path."""
    await unchecked.use(app_secret="a very secret secret")
    await unchecked.get(f"/{instagram.id}/{instagram.token}", instagram.token)
    answer, _, words = await _page(unchecked)
    assert instagram.token not in answer.body
    assert "a very secret secret" not in answer.body
    assert f"{instagram.token[:4]}…{instagram.token[-4:]}" in words


async def test_everything_is_escaped(unchecked: Client) -> None:
    """Names, captions, URLs, paths and ids come out as text: no element and no attribute of theirs is on the page."""
    page = await unchecked.owner("facebook", name=NASTY)
    instagram = await unchecked.owner("instagram", name=NASTY)
    await unchecked.post(f"/{page.id}/feed", page.token, message=NASTY, link=f"https://x.example/{NASTY}")
    await unchecked.publish(instagram, await unchecked.container(instagram, f"https://x.example/{NASTY}"))
    created = await unchecked.post(
        f"/{instagram.id}/media", instagram.token, image_url=f"http://x.example/{NASTY}", alt_text=NASTY, caption=NASTY
    )
    await unchecked.publish(instagram, created.body["id"])
    await unchecked.get(f"/{page.id}/<b>{NASTY}", page.token)
    await unchecked.fault("read_account", "error", message=NASTY)
    _, elements, words = await _page(unchecked)
    assert elements.names <= _ELEMENTS
    assert not [name for _, name, _ in elements.attributes if name.startswith("on")]
    assert NASTY in words
    assert all(value for tag, name, value in elements.attributes if name == "alt" and value)


async def test_nothing_comes_from_elsewhere(client: Client) -> None:
    """The policy forbids scripts, and the style is the sandbox's own file."""
    answer, elements, _ = await _page(client)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe" not in policy
    (style,) = [value for tag, name, value in elements.attributes if (tag, name) == ("link", "href")]
    css = await client.send("GET", str(style))
    assert (css.status, css.headers["Content-Type"]) == (200, "text/css; charset=utf-8")
    assert "url(" not in css.body


async def _press(client: Client, origin: str | None, **form: str) -> Answer:
    headers = {} if origin is None else {"Origin": origin}
    return await client.send("POST", "/_sandbox/page", data=form, headers=headers, allow_redirects=False)


async def test_its_buttons_move_the_clock_and_reset(unchecked: Client, page: Owner) -> None:
    """Back to the page afterwards; accounts stay."""
    await unchecked.post(f"/{page.id}/feed", page.token, message="Hello")
    moved = await _press(unchecked, unchecked.url, advance_seconds="3600")
    assert (moved.status, moved.headers["Location"]) == (303, "/")
    assert (await unchecked.control("GET", "clock"))["ahead_seconds"] == 3_600
    await _press(unchecked, unchecked.url, advance_seconds="7")
    assert (await unchecked.control("GET", "clock"))["ahead_seconds"] == 3_600
    await _press(unchecked, unchecked.url, reset="1")
    assert (await unchecked.control("GET", "health")) == {"status": "ok", "accounts": 1, "live": 0}


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example", "http://127.0.0.1:1"])
async def test_another_sites_form_presses_nothing(client: Client, page: Owner, origin: str | None) -> None:
    """A page from elsewhere can't reset the sandbox of whoever looks at it."""
    await client.post(f"/{page.id}/feed", page.token, message="Hello")
    assert (await _press(client, origin, reset="1")).status == 403
    assert await client.live_count() == 1


async def test_following_reloads_the_page(client: Client) -> None:
    """By the head of the page; no script."""
    _, plain, _ = await _page(client)
    _, following, _ = await _page(client, "/?follow")
    assert ("meta", "http-equiv", "refresh") not in plain.attributes
    assert ("meta", "http-equiv", "refresh") in following.attributes
