"""The decisions of a Page's photos (Meta: Page Photos reference; Page Stories API). Pure."""

from __future__ import annotations

from typing import Any, Final

from publisher.sandbox import answers
from publisher.sandbox.fields import Readers, pick, wanted, with_id
from publisher.sandbox.instagram_media import timestamp
from publisher.sandbox.objects import Account, Details, Medium, Photo, Placement, Post
from publisher.sandbox.world import World


def create_photo(world: World, page: Account, source_url: str | None, details: Details, now: float) -> Photo:
    """Take a photo in; unpublished, it lives for 24 hours."""
    photo = Photo(id=world.ids.photo(), account=page, source_url=source_url, created_at=now, details=details)
    world.add(photo)
    return photo


def publish_to_feed(world: World, photo: Photo, at: float) -> Post:
    """Publish a photo in the feed: what `/photos` does unless it is told `published=false`."""
    return world.go_live(
        photo.account,
        world.ids.feed_post(photo.account.id),
        medium=Medium.PHOTO,
        placement=Placement.FEED,
        made_from=(photo,),
        details=photo.details,
        now=at,
    )


def publish_photo_story(world: World, page: Account, photo_id: str | None, now: float) -> Post:
    """Publish a photo as a story.

    Raises:
        GraphError: 100, no such photo of this Page, or it is used already.
    """
    photo = find_photo(world, page, photo_id)
    if photo is None or photo.is_gone(now):
        raise answers.invalid_parameter("Invalid id.")
    return repeated(world, photo.posts) or world.go_live(
        page,
        world.ids.story_post(),
        medium=Medium.PHOTO,
        placement=Placement.STORY,
        made_from=(photo,),
        now=now,
    )


def find_photo(world: World, page: Account, photo_id: str | None) -> Photo | None:
    """Return a photo of the Page."""
    photo = world.objects.get(photo_id or "")
    return photo if isinstance(photo, Photo) and photo.account is page else None


def read_photo(photo: Photo, requested: str | None) -> dict[str, Any]:
    """Return the fields of a photo; `page_story_id` tells which post it became."""
    return pick(photo, with_id(wanted(requested, _READERS, ("created_time", "id"))), _READERS)


def repeated(world: World, posts: list[Post]) -> Post | None:
    """Return the post that answers a second publish of one thing, or None when it is published anew.

    Raises:
        GraphError: 100, published already.
    """
    if not posts or world.switches.republish == "duplicate":
        return None
    if world.switches.republish == "error":
        raise answers.already_published()
    return posts[0]


_READERS: Final[Readers[Photo]] = {
    "id": lambda it: it.id,
    "page_story_id": lambda it: it.posts[0].id if it.posts else None,
    "created_time": lambda it: timestamp(it.created_at),
    "name": lambda it: it.details.caption,
    "alt_text_custom": lambda it: it.details.alt_text,
    "link": lambda it: f"https://www.facebook.com/photo.php?fbid={it.id}",
}
