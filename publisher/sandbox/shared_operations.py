"""The calls that both platforms answer, each in its own shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from publisher.sandbox import answers, instagram_media, listing, page_fields
from publisher.sandbox.calls import Call
from publisher.sandbox.clock import Clock
from publisher.sandbox.endpoints import Endpoint
from publisher.sandbox.hosts import VERSION
from publisher.sandbox.objects import Account, Photo, Platform, Post
from publisher.sandbox.world import World

Answer = dict[str, Any]
Row = Callable[[Post], dict[str, Any]]


class SharedOperations:
    """Accounts, stories, deletion."""

    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self._clock = clock
        self.by_endpoint: dict[Endpoint, Callable[[Call], Awaitable[Answer]]] = {
            Endpoint.READ_ACCOUNT: self._read_account,
            Endpoint.LIST_STORIES: self._list_stories,
            Endpoint.DELETE_OBJECT: self._delete_object,
        }

    async def _read_account(self, call: Call) -> Answer:
        account, fields = account_of(call), call.values.get("fields")
        if account.platform is Platform.INSTAGRAM:
            return instagram_media.read_account(account, fields, is_me=call.is_me)
        return page_fields.read_page(account, fields)

    async def _list_stories(self, call: Call) -> Answer:
        account, page, now = account_of(call), listing.read_page(call.values), self._clock.now()
        fields = call.values.get("fields")
        if account.platform is Platform.INSTAGRAM:
            names = instagram_media.media_fields(fields)
            stories = listing.live_stories(account, page, now)
            return listed(call, stories, page, lambda post: instagram_media.media_row(post, names))
        names = page_fields.story_fields(fields)
        status = call.values.get("status", "PUBLISHED").upper()
        if status not in ("PUBLISHED", "ARCHIVED"):
            raise answers.invalid_parameter("param status must be one of {PUBLISHED, ARCHIVED}")
        if status == "PUBLISHED":
            stories = listing.live_stories(account, page, now)
        else:
            has_archive = self._world.switches.story_archive
            stories = listing.archived_stories(account, page, now) if has_archive else iter(())
        return listed(call, stories, page, lambda post: page_fields.story_row(post, names, now))

    async def _delete_object(self, call: Call) -> Answer:
        """Refuse: what is published can't be taken back, and each kind says so differently."""
        assert isinstance(call.node, Photo | Post)
        if isinstance(call.node, Photo):
            return {"success": False}
        if account_of(call).platform is Platform.INSTAGRAM:
            raise answers.permission_missing()
        raise answers.unsupported("delete", call.node.id)


def account_of(call: Call) -> Account:
    """Return the account of a call that is about one."""
    assert call.account is not None
    return call.account


def listed(call: Call, posts: Iterator[Post], page: listing.Page, row: Row) -> Answer:
    """Return one page of a list; the addresses of its neighbours name the version that was called."""
    site = call.site
    url = "/".join((site.base, site.version or VERSION, *site.segments))
    return listing.answer(posts, page, row, url, call.values)
