"""Lists of stories: which ones a reader sees now, newest first, and the cursors to page through them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from publisher.sandbox import answers
from publisher.sandbox.objects import DAY_SECONDS, Account, Post

PAGE_LENGTH = 25
PAGE_LENGTH_MAX = 100


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for; `after` and `before` are post ids."""

    limit: int
    after: str | None
    before: str | None
    since: float | None
    until: float | None


def read_page(parameters: Mapping[str, str]) -> Page:
    """Read the paging parameters.

    Raises:
        GraphError: 100, one of them can't be read.
    """
    limit = read_number(parameters, "limit")
    return Page(
        limit=PAGE_LENGTH if limit is None else min(max(int(limit), 1), PAGE_LENGTH_MAX),
        after=_read_cursor(parameters, "after"),
        before=_read_cursor(parameters, "before"),
        since=read_number(parameters, "since"),
        until=read_number(parameters, "until"),
    )


def read_number(parameters: Mapping[str, str], name: str) -> float | None:
    """Read a count or a unix time.

    Raises:
        GraphError: 100, not a whole number.
    """
    text = parameters.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise answers.invalid_parameter(f"param {name} must be an integer.")
    return float(text)


def live_stories(account: Account, page: Page, now: float) -> list[Post]:
    """Return the stories of the last 24 hours that a reader sees, newest first."""
    # Posts are in the order of their publishing, so the first old one ends the search.
    found: list[Post] = []
    enough = page.limit if page.after is None and page.before is None else len(account.posts)
    for post in reversed(account.posts):
        if post.published_at <= now - DAY_SECONDS or len(found) >= enough:
            break
        if post.is_story and post.is_live(now) and _in_range(post, page):
            found.append(post)
    return found


def archived_stories(account: Account, page: Page, now: float) -> list[Post]:
    """Return the stories that are older than 24 hours, newest first."""
    return [
        post
        for post in reversed(account.posts)
        if post.is_story and post.published_at <= now - DAY_SECONDS and _in_range(post, page)
    ]


def answer(posts: list[Post], page: Page, row: Callable[[Post], dict[str, Any]]) -> dict[str, Any]:
    """Return one page of a list, with its cursors; an empty one has no `paging`.

    A cursor whose post ended meanwhile stood at the old end of the list: nothing comes after it.
    """
    ids = [post.id for post in posts]
    first = 0
    if page.after is not None:
        first = ids.index(page.after) + 1 if page.after in ids else len(ids)
    last = ids.index(page.before) if page.before in ids else len(ids)
    shown = posts[first:last][: page.limit]
    body: dict[str, Any] = {"data": [row(post) for post in shown]}
    if shown:
        body["paging"] = {"cursors": {"before": _cursor(shown[0].id), "after": _cursor(shown[-1].id)}}
    return body


def _in_range(post: Post, page: Page) -> bool:
    since, until = page.since, page.until
    return (since is None or post.published_at >= since) and (until is None or post.published_at <= until)


def _cursor(post_id: str) -> str:
    return base64.urlsafe_b64encode(post_id.encode()).decode()


def _read_cursor(parameters: Mapping[str, str], name: str) -> str | None:
    text = parameters.get(name)
    if not text:
        return None
    try:
        return base64.b64decode(text.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError, ValueError) as malformed:
        raise answers.invalid_parameter(f"Invalid cursor in {name}") from malformed
