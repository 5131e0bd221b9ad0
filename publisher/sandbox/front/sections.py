"""World, journal and faults as elements. No token and no secret is shown whole."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from publisher.sandbox.container_status import failed_subcode
from publisher.sandbox.faults import Faults
from publisher.sandbox.front.markup import Markup, element, join
from publisher.sandbox.instagram import quota_total, quota_usage
from publisher.sandbox.journal import Entry, Journal
from publisher.sandbox.objects import Account, Container, Medium, Placement, Platform, Post
from publisher.sandbox.parameters import redacted_text
from publisher.sandbox.reports import kind_of
from publisher.sandbox.world import World

POSTS_SHOWN: Final = 60
ROWS_SHOWN: Final = 100
_USED_PERCENT_WARN: Final = 75


def accounts(world: World, now: float) -> Markup:
    """Return a card for each account: its token masked, its quota and its usage."""
    cards = [_account(world, account, now) for account in world.accounts.values()]
    return _section("Accounts", len(cards), _grid("accounts", cards), "None yet: POST /_sandbox/accounts adds one.")


def stories(world: World, now: float) -> Markup:
    """Return the stories that are live, with their pictures, newest first."""
    live = [post for post in reversed(world.posts) if post.placement is Placement.STORY and post.is_live(now)]
    return _section("Stories", len(live), _grid("stories", _tiles(live, now)), "No story is live.")


def feed(world: World, now: float) -> Markup:
    """Return what is live for good: feed posts and reels, newest first."""
    live = [post for post in reversed(world.posts) if post.placement is not Placement.STORY and post.is_live(now)]
    return _section("Feed and reels", len(live), _grid("feed", _tiles(live, now)), "Nothing is in a feed.")


def containers(world: World, now: float) -> Markup:
    """Return the newest containers and where each of them stands."""
    found = [node for node in world.objects.values() if isinstance(node, Container)]
    rows = [_container(container, now) for container in islice(reversed(found), ROWS_SHOWN)]
    table = _table(("created", "container", "account", "what", "status", "media"), rows)
    return _section("Containers", len(found), table, "No container has been created.")


def faults(found: Faults) -> Markup:
    """Return scripted faults and how many random ones there were."""
    rows: list[tuple[str, ...]] = [
        (
            fault.id,
            fault.spec.endpoint,
            fault.spec.action,
            _code(fault.spec.code, fault.spec.subcode),
            "always" if fault.spec.times is None else str(fault.spec.times),
            str(fault.hit_count),
        )
        for fault in found.by_id.values()
    ]
    rows += [("random", "any", mishap, "", "", str(count)) for mishap, count in sorted(found.mishap_counts.items())]
    table = _table(("fault", "endpoint", "action", "code", "times", "hits"), rows)
    return _section("Faults", len(rows), table, "No fault is scripted.")


def requests(world: World, journal: Journal) -> Markup:
    """Return the last calls, newest first."""
    tokens = frozenset(world.tokens)
    rows = [_request(entry, tokens) for entry in islice(reversed(journal.entries), ROWS_SHOWN)]
    table = _table(("at", "call", "endpoint", "account", "answer", "fault"), rows)
    return _section("Requests", sum(journal.counts.values()), table, "Nothing was called.")


def masked(token: str) -> str:
    """Return enough of a token to tell it from another."""
    return f"{token[:4]}…{token[-4:]}" if len(token) >= 20 else "…"


def moment(instant: float) -> str:
    """Return a time of day in UTC; the clock may be days ahead, so with its date."""
    return "never" if instant == math.inf else time.strftime("%d %b %H:%M:%S", time.gmtime(instant))


def _account(world: World, account: Account, now: float) -> Markup:
    is_instagram = account.platform is Platform.INSTAGRAM
    state = account.token.state_at(now)
    token_state = _badge(state, "good" if state == "valid" else "bad")
    facts = [
        element("dt", "token"),
        element(
            "dd",
            element("code", masked(account.token.value)),
            " ",
            token_state,
        ),
    ]
    if is_instagram:
        used, total = quota_usage(account, now), quota_total(world, account)
        facts += [element("dt", "published"), element("dd", f"{used} of {total} in 24 h ", _meter(used, total))]
        facts += [element("dt", "login"), element("dd", "Instagram" if account.scoped_id else "Facebook")]
    else:
        used, total = len(account.reels_at), world.switches.reel_limit
        facts += [element("dt", "reels"), element("dd", f"{used} of {total} in 24 h ", _meter(used, total))]
    busiest = max(account.usage.values(), default=0)
    facts += [element("dt", "usage"), element("dd", f"{busiest} % ", _meter(busiest, 100))]
    return element(
        "article",
        element("h3", _badge(account.platform, account.platform), " ", account.name),
        element("p", element("code", account.id), class_="muted"),
        element("dl", *facts),
        class_="card",
    )


def _tiles(posts: Sequence[Post], now: float) -> list[Markup]:
    return [_tile(post, now) for post in posts[:POSTS_SHOWN]]


def _tile(post: Post, now: float) -> Markup:
    caption = post.details.caption or post.details.link
    platform = _badge(post.account.platform, post.account.platform)
    return element(
        "article",
        _picture(post),
        element(
            "div",
            element("p", element("strong", post.account.name), " ", platform),
            element("p", caption, class_="caption") if caption else None,
            element("p", f"{kind_of(post).replace('_', ' ')} · {_age(now - post.published_at)}", class_="muted"),
            element("p", element("code", post.id), class_="muted"),
            class_="words",
        ),
        class_=f"tile {post.placement}",
    )


def _picture(post: Post) -> Markup:
    urls = [url for url in post.source_urls if url.lower().startswith(("http://", "https://"))]
    if not urls:
        words = {Medium.TEXT: "Aa", Medium.VIDEO: "▶"}.get(post.medium, "🖼")
        return element("div", words, class_="picture plain", title=", ".join(post.source_urls) or None)
    if post.medium is Medium.VIDEO and post.details.cover_url is None:
        shown = element("video", src=urls[0], preload="metadata", muted="", playsinline="", controls="")
    else:
        source = post.details.cover_url or urls[0]
        shown = element(
            "img", src=source, alt=post.details.alt_text or "", loading="lazy", referrerpolicy="no-referrer"
        )
    count = element("span", f"1/{len(post.items)}", class_="count") if post.items else None
    return element("div", shown, count, class_="picture")


def _container(container: Container, now: float) -> tuple[str, ...]:
    status = container.status_code(now)
    tone = {"PUBLISHED": "good", "FINISHED": "good", "IN_PROGRESS": "busy"}.get(status, "bad")
    text = f"{status} {failed_subcode(container)}" if status == "ERROR" else status
    return (
        moment(container.created_at),
        element("code", container.id),
        container.account.name,
        f"{container.placement} {container.medium}",
        _badge(text, tone),
        element("span", ", ".join(container.source_urls) or "sent as a file", class_="url"),
    )


def _request(entry: Entry, tokens: frozenset[str]) -> tuple[str, ...]:
    if entry.dropped:
        answer = _badge("dropped", "bad")
    elif entry.status is None:
        answer = _badge("in flight", "busy")
    else:
        words = f"{entry.status} {_code(entry.code, entry.subcode)}".strip()
        answer = _badge(words, "good" if entry.status < 400 and entry.code is None else "bad")
    path = redacted_text(entry.path, tokens)
    call = join(element("b", entry.method), " ", element("span", path, class_="url"))
    return moment(entry.at), call, entry.endpoint, entry.account or "", answer, entry.fault or ""


def _code(code: int | None, subcode: int | None) -> str:
    return "" if code is None else str(code) if subcode is None else f"{code}/{subcode}"


def _age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def _section(title: str, count: int, content: Markup, nothing: str) -> Markup:
    heading = element("h2", title, " ", element("span", str(count), class_="muted"))
    return element("section", heading, content if count else element("p", nothing, class_="muted"))


def _grid(kind: str, cards: Iterable[Markup]) -> Markup:
    return element("div", *cards, class_=f"grid {kind}")


def _table(names: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Markup:
    head = element("thead", element("tr", *(element("th", name) for name in names)))
    body = element("tbody", *(element("tr", *(element("td", cell) for cell in row)) for row in rows))
    return element("div", element("table", head, body), class_="scroll")


def _badge(words: str, tone: str) -> Markup:
    return element("span", words.replace("_", " "), class_=f"badge {tone}")


def _meter(used: int, total: int) -> Markup:
    percent = min(100, 100 * used // total) if total else 100
    tone = "bad" if percent >= 100 else "busy" if percent >= _USED_PERCENT_WARN else "good"
    return element("progress", value=str(percent), max="100", class_=tone)
