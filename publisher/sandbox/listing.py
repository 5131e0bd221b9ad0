"""Lists of posts: which ones a reader sees now, newest first, and the cursors to page through them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final
from urllib.parse import urlencode

from publisher.sandbox import answers
from publisher.sandbox.objects import DAY_SECONDS, Account, Post

PAGE_LENGTH: Final = 25
PAGE_LENGTH_MAX: Final = 100
# Meta: IG User Media reference.
MEDIA_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for; `after` and `before` are post ids."""

    limit: int
    after: str | None
    before: str | None
    since: float | None
    until: float | None

    def holds(self, post: Post) -> bool:
        """Tell whether a post is in the range of time."""
        since, until = self.since, self.until
        return (since is None or post.published_at >= since) and (until is None or post.published_at <= until)


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


def live_stories(account: Account, page: Page, now: float) -> Iterator[Post]:
    """Yield the stories of the last 24 hours that a reader sees, newest first."""
    # In the order of their publishing, so the first old one ends the search.
    for post in reversed(account.stories):
        if post.published_at <= now - DAY_SECONDS:
            return
        if post.is_listed(now) and page.holds(post):
            yield post


def archived_stories(account: Account, page: Page, now: float) -> Iterator[Post]:
    """Yield the stories that are older than 24 hours, newest first."""
    for post in reversed(account.stories):
        if post.published_at <= now - DAY_SECONDS and page.holds(post):
            yield post


def feed(account: Account, page: Page, now: float) -> Iterator[Post]:
    """Yield everything but stories that a reader sees, newest first."""
    for post in islice(reversed(account.feed), MEDIA_MAX):
        if page.since is not None and post.published_at < page.since:
            return
        if post.is_listed(now) and page.holds(post):
            yield post


def answer(
    posts: Iterator[Post], page: Page, row: Callable[[Post], dict[str, Any]], url: str, parameters: Mapping[str, str]
) -> dict[str, Any]:
    """Return one page of a list, with its cursors and, where there is more, the address of the next page.

    An empty one has no `paging`. A cursor whose post ended meanwhile stood at the old end of the list: nothing
    comes after it.
    """
    shown, has_more = _cut(posts, page)
    body: dict[str, Any] = {"data": [row(post) for post in shown]}
    if not shown:
        return body
    before, after = _cursor(shown[0].id), _cursor(shown[-1].id)
    body["paging"] = {"cursors": {"before": before, "after": after}}
    rest = {name: value for name, value in parameters.items() if name not in ("after", "before")}
    if has_more:
        body["paging"]["next"] = f"{url}?{_query(rest | {'after': after})}"
    if page.after is not None:
        body["paging"]["previous"] = f"{url}?{_query(rest | {'before': before})}"
    return body


def _cut(posts: Iterator[Post], page: Page) -> tuple[list[Post], bool]:
    if page.after is not None:
        for post in posts:
            if post.id == page.after:
                break
    shown: list[Post] = []
    for post in posts:
        if post.id == page.before:
            break
        if len(shown) == page.limit and page.before is None:
            return shown, True
        shown.append(post)
    return shown[-page.limit :], page.before is not None


def _query(parameters: Mapping[str, str]) -> str:
    return urlencode(parameters, errors="replace")


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
