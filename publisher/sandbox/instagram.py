"""The decisions of Instagram's content publishing; pure: each takes the world and a now.

Sources: Meta's Content Publishing guide, and its references of IG User and IG Container.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, assert_never
from urllib.parse import quote

from publisher.sandbox import answers
from publisher.sandbox.answers import GraphError
from publisher.sandbox.fields import Readers, pick, wanted
from publisher.sandbox.objects import DAY_SECONDS, Account, Container, MediaProblem, Medium, Post
from publisher.sandbox.world import World

# The number in a container's `status` text, by what was wrong with its video.
_STATUS_SUBCODES: Final = {
    MediaProblem.UNREACHABLE: 2207052,
    MediaProblem.TIMED_OUT: 2207003,
    MediaProblem.TOO_LARGE: 2207026,
    MediaProblem.UNSUPPORTED: 2207026,
    MediaProblem.TOO_SMALL: 2207026,
}


def read_media(parameters: Mapping[str, str]) -> tuple[Medium, str]:
    """Return what a `POST /{ig-id}/media` wants to publish, and from which URL.

    Raises:
        GraphError: 100/2207023, not a story; 100, not exactly one URL.
    """
    media_type = parameters.get("media_type", "")
    if media_type.upper() != "STORIES":
        raise answers.unknown_media_type(media_type or "(none)")
    image_url, video_url = parameters.get("image_url"), parameters.get("video_url")
    if image_url and video_url:
        raise answers.invalid_parameter("Only one of image_url and video_url can be given")
    if video_url:
        return Medium.VIDEO, video_url
    if image_url:
        return Medium.PHOTO, image_url
    raise answers.invalid_parameter("The parameter image_url is required")


def admit_container(world: World, account: Account, now: float) -> None:
    """Hold an account to its containers a day.

    Meta documents the limit (IG User Media reference) but not the error; the publish quota's is used.

    Raises:
        GraphError: 9/2207042.
    """
    _forget_old(account.containers_created_at, now)
    if len(account.containers_created_at) >= world.switches.container_limit:
        raise answers.quota_used_up("media containers")


def create_container(
    world: World, account: Account, medium: Medium, source_url: str, *, checked: bool, now: float
) -> Container:
    """Create a container; it is ready when its media is checked and its processing time is over."""
    switches = world.switches
    shortest, longest = switches.image_seconds if medium is Medium.PHOTO else switches.video_seconds
    container = Container(
        id=world.ids.instagram_object(),
        account=account,
        medium=medium,
        source_url=source_url,
        created_at=now,
        ready_at=now + world.ids.seconds_between(shortest, longest),
        checked=checked,
    )
    account.containers_created_at.append(now)
    world.objects[container.id] = container
    return container


def image_error(problem: MediaProblem, url: str) -> GraphError:
    """Return the error that `/media` answers for an image."""
    match problem:
        case MediaProblem.UNREACHABLE:
            return answers.media_unreachable(url)
        case MediaProblem.TIMED_OUT:
            return answers.media_timed_out()
        case MediaProblem.TOO_LARGE:
            return answers.image_too_large()
        case MediaProblem.UNSUPPORTED | MediaProblem.TOO_SMALL:
            return answers.image_format_unsupported()
        case never:
            assert_never(never)


def read_container(container: Container, requested: str | None, now: float) -> dict[str, Any]:
    """Return the fields of a container: it has five, and the id of what it became is not among them."""
    readers: Readers[Container] = {
        "id": lambda it: it.id,
        "status": lambda it: _status_text(it, now),
        "status_code": lambda it: it.status_code(now),
        "copyright_check_status": lambda it: {
            "status": "in_progress" if it.status_code(now) == "IN_PROGRESS" else "completed",
            "matches_found": False,
        },
        "video_status": lambda it: _video_status(it, now),
    }
    names = wanted(requested, readers, ("status_code",))
    return pick(container, names if "id" in names else (*names, "id"), readers)


def publish(world: World, account: Account, creation_id: str | None, now: float) -> Post:
    """Publish a container, or play the answer to a repeated publish that `republish` chooses.

    Raises:
        GraphError: 24/2207008, unknown or expired; 9007/2207027, not FINISHED; 9/2207042, quota used up;
            100, published already.
    """
    if not creation_id:
        raise answers.invalid_parameter("The parameter creation_id is required")
    container = find_container(world, account, creation_id)
    if container is None:
        raise answers.container_not_found(creation_id)
    match container.status_code(now):
        case "EXPIRED":
            raise answers.container_not_found(creation_id)
        case "IN_PROGRESS" | "ERROR":
            raise answers.not_ready()
    if container.posts:
        if world.switches.republish == "error":
            raise answers.already_published()
        if world.switches.republish == "same_id":
            return container.posts[0]
    if quota_usage(account, now) >= quota_total(world, account):
        raise answers.quota_used_up("posts")
    account.published_at.append(now)
    return world.go_live(
        container,
        world.ids.instagram_object(),
        medium=container.medium,
        now=now,
        ready_at=container.ready_at,
    )


def find_container(world: World, account: Account, creation_id: str) -> Container | None:
    """Return a container of the account."""
    container = world.objects.get(creation_id)
    return container if isinstance(container, Container) and container.account is account else None


def quota_total(world: World, account: Account) -> int:
    """Return how many publishes the account has in 24 hours."""
    return world.switches.quota_total if account.quota_total is None else account.quota_total


def quota_usage(account: Account, now: float) -> int:
    """Return how many publishes the last 24 hours saw: a rolling window, not a calendar day."""
    _forget_old(account.published_at, now)
    return len(account.published_at)


def read_limit(
    world: World, account: Account, requested: str | None, since: float | None, now: float
) -> dict[str, Any]:
    """Return the answer of `content_publishing_limit`; without fields only the usage is in it."""
    usage = quota_usage(account, now)
    if since is not None:
        usage = sum(1 for instant in account.published_at if instant >= since)
    readers: Readers[Account] = {
        "quota_usage": lambda _: usage,
        "config": lambda it: {"quota_total": quota_total(world, it), "quota_duration": DAY_SECONDS},
    }
    return {"data": [pick(account, wanted(requested, readers, ("quota_usage",)), readers)]}


def media_fields(requested: str | None) -> tuple[str, ...]:
    """Return the names that `fields` asks of a story; by default only its id."""
    names = wanted(requested, _MEDIA_READERS, ("id",))
    return names if "id" in names else (*names, "id")


def media_row(post: Post, names: tuple[str, ...]) -> dict[str, Any]:
    """Return a story, by itself or as a row of `GET /{ig-id}/stories`."""
    return pick(post, names, _MEDIA_READERS)


def read_account(account: Account, requested: str | None) -> dict[str, Any]:
    """Return the fields of a professional account."""
    names = wanted(requested, _ACCOUNT_READERS, ("id",))
    return pick(account, names if "id" in names else (*names, "id"), _ACCOUNT_READERS)


_ACCOUNT_READERS: Final[Readers[Account]] = {"id": lambda it: it.id, "username": lambda it: it.name}
_MEDIA_READERS: Final[Readers[Post]] = {
    "id": lambda it: it.id,
    "permalink": lambda it: f"https://www.instagram.com/stories/{quote(it.account.name)}/{it.permalink_number}",
    "timestamp": lambda it: timestamp(it.published_at),
    "media_type": lambda it: "IMAGE" if it.medium is Medium.PHOTO else "VIDEO",
    "media_product_type": lambda _: "STORY",
    "media_url": lambda it: it.source_url,
    "thumbnail_url": lambda it: it.source_url if it.medium is Medium.VIDEO else None,
    "shortcode": lambda it: f"S{it.permalink_number[-10:]}",
    "username": lambda it: it.account.name,
    "owner": lambda it: {"id": it.account.id},
    # A story has none: the parameter is accepted and shown nowhere.
    "caption": lambda _: None,
}


def timestamp(instant: float) -> str:
    """Return an instant as Graph prints it: no colon in the offset."""
    return time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(instant))


def _status_text(container: Container, now: float) -> str:
    match container.status_code(now):
        case "PUBLISHED":
            return "Published: Media has been successfully published."
        case "EXPIRED":
            # Meta prints this text nowhere.
            return "Expired: Media was not published within 24 hours."
        case "ERROR":
            assert container.problem is not None
            return f"Error: Media upload has failed with error code {_STATUS_SUBCODES[container.problem]}"
        case "FINISHED":
            return "Finished: Media has been uploaded and it is ready to be published."
        case "IN_PROGRESS":
            return "In Progress: Media is still being processed."
        case never:
            assert_never(never)


def _video_status(container: Container, now: float) -> dict[str, Any] | None:
    """One letter apart from the Page's: `bytes_transferred` here (Meta: Resumable Uploads)."""
    if container.medium is not Medium.VIDEO:
        return None
    uploading, processing = "complete", "complete"
    match container.status_code(now):
        case "IN_PROGRESS":
            uploading = "complete" if container.checked else "in_progress"
            processing = "in_progress" if container.checked else "not_started"
        case "ERROR" if container.problem in (MediaProblem.UNREACHABLE, MediaProblem.TIMED_OUT):
            uploading, processing = "error", "not_started"
        case "ERROR":
            processing = "error"
    return {"uploading_phase": {"status": uploading}, "processing_phase": {"status": processing}}


def _forget_old(instants: deque[float], now: float) -> None:
    while instants and instants[0] <= now - DAY_SECONDS:
        instants.popleft()
