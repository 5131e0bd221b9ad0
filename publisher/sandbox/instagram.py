"""The decisions of Instagram's content publishing; pure: each takes the world and a now.

Sources: Meta's Content Publishing guide, and its references of IG User and IG Container.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, assert_never

from publisher.sandbox import answers
from publisher.sandbox.containers import ContainerOrder
from publisher.sandbox.fields import Readers, pick, wanted
from publisher.sandbox.graph_error import GraphError
from publisher.sandbox.objects import (
    DAY_SECONDS,
    Account,
    Container,
    MediaProblem,
    Medium,
    Placement,
    Post,
    Verdict,
)
from publisher.sandbox.world import World

NOT_FETCHED: Final = (MediaProblem.UNREACHABLE, MediaProblem.TIMED_OUT)


def admit_container(world: World, account: Account, now: float) -> None:
    """Hold an account to its containers a day; each item of a carousel is one, and so is the carousel.

    Meta documents the limit (IG User Media reference) but not the error; the publish quota's is used.

    Raises:
        GraphError: 9/2207042.
    """
    forget_old(account.containers_created_at, now)
    if len(account.containers_created_at) >= world.switches.container_limit:
        raise answers.quota_used_up("media containers")


def create_container(
    world: World, account: Account, order: ContainerOrder, *, checked: bool, is_jpeg: bool = True, now: float
) -> Container:
    """Create a container; it is ready when its media is here and checked, and its processing time is over."""
    container = Container(
        id=world.ids.instagram_object(),
        account=account,
        placement=order.placement,
        medium=order.medium,
        created_at=now,
        ready_at=now + _processing_seconds(world, order.medium),
        checked=checked and not order.awaits_upload,
        source_url=order.source_url,
        details=order.details,
        children=order.children,
        awaits_upload=order.awaits_upload,
        is_jpeg=is_jpeg,
    )
    account.containers_created_at.append(now)
    world.add(container)
    return container


def finish_check(container: Container, verdict: Verdict) -> None:
    """Record what was found in a video that was fetched."""
    container.problem = verdict.problem or _thumbnail_problem(container, verdict.duration_seconds)
    container.checked = True


def finish_upload(world: World, container: Container, verdict: Verdict, now: float) -> None:
    """Record that a video is here, or why it is not; processing starts."""
    finish_check(container, verdict)
    container.uploaded_at = None if verdict.problem in NOT_FETCHED else now
    container.ready_at = now + _processing_seconds(world, container.medium)


def image_error(problem: MediaProblem, url: str) -> GraphError:
    """Return the error that `/media` answers for an image."""
    match problem:
        case MediaProblem.UNREACHABLE:
            return answers.media_unreachable(url)
        case MediaProblem.TIMED_OUT:
            return answers.media_timed_out()
        case MediaProblem.TOO_LARGE:
            return answers.image_too_large()
        case MediaProblem.ASPECT_RATIO:
            return answers.aspect_ratio_wrong()
        case MediaProblem.UNSUPPORTED | MediaProblem.TOO_SMALL | MediaProblem.THUMBNAIL_OFFSET:
            return answers.image_format_unsupported()
        case never:
            assert_never(never)


def publish(world: World, account: Account, creation_id: str | None, now: float) -> Post:
    """Publish a container, or play the answer to a repeated publish that `republish` chooses.

    Raises:
        GraphError: 24/2207008, unknown or expired; 9007/2207027, not FINISHED; 9/2207042, quota used up;
            36001/2207005, not JPEG where only that can be published; 100, published already, or an item.
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
    if container.placement is Placement.ITEM:
        raise answers.invalid_parameter("A carousel item can't be published by itself")
    if container.posts:
        if world.switches.republish == "error":
            raise answers.already_published()
        if world.switches.republish == "same_id":
            return container.posts[0]
    counts = container.placement is not Placement.STORY or world.switches.stories_count
    if counts and quota_usage(account, now) >= quota_total(world, account):
        raise answers.quota_used_up("posts")
    if not world.switches.png_publishes and not all(it.is_jpeg for it in (container, *container.children)):
        raise answers.image_format_unsupported()
    if counts:
        account.published_at.append(now)
    return _go_live(world, container, now)


def find_container(world: World, account: Account, creation_id: str) -> Container | None:
    """Return a container of the account."""
    container = world.objects.get(creation_id)
    return container if isinstance(container, Container) and container.account is account else None


def quota_total(world: World, account: Account) -> int:
    """Return how many publishes the account has in 24 hours."""
    return world.switches.quota_total if account.quota_total is None else account.quota_total


def quota_usage(account: Account, now: float) -> int:
    """Return how many publishes the last 24 hours saw: a rolling window, not a calendar day."""
    forget_old(account.published_at, now)
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


def forget_old(instants: deque[float], now: float) -> None:
    """Drop what is older than 24 hours from the front."""
    while instants and instants[0] <= now - DAY_SECONDS:
        instants.popleft()


def _go_live(world: World, container: Container, now: float) -> Post:
    account, shown_count = container.account, max(len(container.children) - world.switches.carousel_items_lost, 0)
    items = tuple(
        world.go_live(
            account,
            world.ids.instagram_object(),
            medium=child.medium,
            placement=Placement.ITEM,
            made_from=(child,),
            details=child.details,
            now=now,
        )
        for child in container.children[:shown_count]
    )
    return world.go_live(
        account,
        world.ids.instagram_object(),
        medium=container.medium,
        placement=container.placement,
        made_from=(container,),
        details=container.details,
        now=now,
        ready_at=container.ready_at,
        items=items,
    )


def _processing_seconds(world: World, medium: Medium) -> float:
    switches = world.switches
    shortest, longest = switches.video_seconds if medium is Medium.VIDEO else switches.image_seconds
    return world.ids.seconds_between(shortest, longest)


def _thumbnail_problem(container: Container, duration_seconds: float | None) -> MediaProblem | None:
    offset = container.details.thumb_offset
    if offset is None or duration_seconds is None or offset <= duration_seconds * 1_000:
        return None
    return MediaProblem.THUMBNAIL_OFFSET
