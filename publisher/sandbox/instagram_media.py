"""How published Instagram media and accounts are read (Meta: IG Media and IG User references). Pure."""

from __future__ import annotations

import time
from typing import Any, Final
from urllib.parse import quote

from publisher.sandbox.fields import Nested, Readers, pick, wanted, with_id
from publisher.sandbox.objects import Account, Medium, Placement, Post

_TYPES: Final = {Medium.PHOTO: "IMAGE", Medium.VIDEO: "VIDEO", Medium.CAROUSEL: "CAROUSEL_ALBUM"}
_PRODUCTS: Final = {
    Placement.STORY: "STORY",
    Placement.REEL: "REELS",
    Placement.FEED: "FEED",
    Placement.ITEM: "FEED",
}
_PATHS: Final = {Placement.REEL: "reel", Placement.FEED: "p", Placement.ITEM: "p"}
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def media_fields(requested: str | None) -> tuple[str, ...]:
    """Return the names that `fields` asks of media; by default only its id."""
    return with_id(wanted(requested, _MEDIA_READERS, ("id",)))


def media_row(post: Post, names: tuple[str, ...]) -> dict[str, Any]:
    """Return media, by itself or as a row of a list."""
    return pick(post, names, _MEDIA_READERS)


def read_account(account: Account, requested: str | None, *, is_me: bool) -> dict[str, Any]:
    """Return the fields of a professional account; as `me` of Instagram Login its `id` is the second one."""
    names = with_id(wanted(requested, _ACCOUNT_READERS, ("id",)))
    row = pick(account, names, _ACCOUNT_READERS)
    return row | {"id": account.scoped_id} if is_me and account.scoped_id else row


def timestamp(instant: float) -> str:
    """Return an instant as Graph prints it: no colon in the offset."""
    return time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(instant))


def _permalink(post: Post) -> str | None:
    if post.placement is Placement.STORY:
        return f"https://www.instagram.com/stories/{quote(post.account.name)}/{post.permalink_number}"
    return f"https://www.instagram.com/{_PATHS[post.placement]}/{_shortcode(post)}/"


def _shortcode(post: Post) -> str:
    """Return 11 letters that stand for the number, as Instagram's do."""
    number, letters = int(post.permalink_number), ""
    for _ in range(11):
        number, digit = divmod(number, 64)
        letters = _LETTERS[digit] + letters
    return letters


def _children(post: Post) -> Nested | None:
    if post.medium is not Medium.CAROUSEL:
        return None
    own = {name: reader for name, reader in _MEDIA_READERS.items() if name != "children"}
    rows = [pick(item, tuple(own), own) for item in post.items]
    return Nested(rows, ("id",), frozenset(own))


def _url(post: Post) -> str | None:
    return post.source_urls[0] if post.source_urls and post.medium is not Medium.CAROUSEL else None


_ACCOUNT_READERS: Final[Readers[Account]] = {
    "id": lambda it: it.id,
    "user_id": lambda it: it.id,
    "username": lambda it: it.name,
    "name": lambda it: it.name,
    "account_type": lambda _: "BUSINESS",
    "media_count": lambda it: len(it.feed),
    "profile_picture_url": lambda _: None,
}
_MEDIA_READERS: Final[Readers[Post]] = {
    "id": lambda it: it.id,
    "permalink": _permalink,
    "timestamp": lambda it: timestamp(it.published_at),
    "media_type": lambda it: _TYPES[it.medium],
    "media_product_type": lambda it: _PRODUCTS[it.placement],
    "media_url": _url,
    "thumbnail_url": lambda it: it.details.cover_url or _url(it) if it.medium is Medium.VIDEO else None,
    "shortcode": _shortcode,
    "username": lambda it: it.account.name,
    "owner": lambda it: {"id": it.account.id},
    # A story has none: the parameter is accepted and shown nowhere.
    "caption": lambda it: it.details.caption,
    "alt_text": lambda it: it.details.alt_text,
    "is_shared_to_feed": lambda it: it.details.share_to_feed if it.placement is Placement.REEL else None,
    "like_count": lambda _: 0,
    "comments_count": lambda _: 0,
    "children": _children,
}
