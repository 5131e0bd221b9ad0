"""What a request asks for: which endpoint, and the object that the call is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from publisher.sandbox import answers, instagram, page_photos, page_videos
from publisher.sandbox.captions import is_true
from publisher.sandbox.endpoints import Endpoint
from publisher.sandbox.hosts import Site
from publisher.sandbox.objects import (
    Account,
    Container,
    Made,
    Medium,
    Node,
    Photo,
    Placement,
    Platform,
    Post,
    Token,
    User,
    Video,
)
from publisher.sandbox.parameters import Parameters
from publisher.sandbox.tokens import check_scope
from publisher.sandbox.world import World


@dataclass(slots=True)
class Call:
    """A call whose token is good and whose object exists and belongs to the token.

    `subjects` are what it is about: URLs of media (of an uploaded file, the name), links, messages. Scripted faults
    choose by them.
    """

    endpoint: Endpoint
    request: web.BaseRequest
    method: str
    site: Site
    parameters: Parameters
    account: Account | None
    node: Node | None
    token: Token | None = None
    subjects: tuple[str, ...] = ()
    failing_subcode: int | None = None
    """Set by a fault: the media of this call is taken, and fails later with this number."""

    @property
    def values(self) -> dict[str, str]:
        """The parameters."""
        return self.parameters.values

    @property
    def is_me(self) -> bool:
        """Whether the object is called by the name of the token's owner."""
        return self.site.segments[:1] == ("me",)


_EDGES: Final = {
    (Platform.INSTAGRAM, "POST", "media"): Endpoint.CREATE_CONTAINER,
    (Platform.INSTAGRAM, "GET", "media"): Endpoint.LIST_MEDIA,
    (Platform.INSTAGRAM, "POST", "media_publish"): Endpoint.PUBLISH_CONTAINER,
    (Platform.INSTAGRAM, "GET", "content_publishing_limit"): Endpoint.PUBLISHING_LIMIT,
    (Platform.INSTAGRAM, "GET", "stories"): Endpoint.LIST_STORIES,
    (Platform.FACEBOOK, "POST", "photos"): Endpoint.UPLOAD_PHOTO,
    (Platform.FACEBOOK, "POST", "photo_stories"): Endpoint.PUBLISH_PHOTO_STORY,
    (Platform.FACEBOOK, "POST", "feed"): Endpoint.CREATE_POST,
    (Platform.FACEBOOK, "GET", "feed"): Endpoint.LIST_FEED,
    (Platform.FACEBOOK, "GET", "published_posts"): Endpoint.LIST_PUBLISHED_POSTS,
    (Platform.FACEBOOK, "GET", "video_reels"): Endpoint.LIST_REELS,
    (Platform.FACEBOOK, "GET", "stories"): Endpoint.LIST_STORIES,
    (Platform.FACEBOOK, "POST", "videos"): Endpoint.CREATE_VIDEO,
}
# By edge and upload phase.
_PHASES: Final = {
    ("video_stories", "start"): Endpoint.START_VIDEO_STORY,
    ("video_stories", "finish"): Endpoint.FINISH_VIDEO_STORY,
    ("video_reels", "start"): Endpoint.START_REEL,
    ("video_reels", "finish"): Endpoint.FINISH_REEL,
    ("videos", "start"): Endpoint.START_VIDEO,
    ("videos", "transfer"): Endpoint.TRANSFER_VIDEO,
    ("videos", "finish"): Endpoint.FINISH_VIDEO,
}


def resolve(
    world: World, token: Token | None, request: web.BaseRequest, *, method: str, site: Site, parameters: Parameters
) -> Call:
    """Find the object and the endpoint that a call names.

    Raises:
        GraphError: 100/33, there is none that this token may use in this way; 100, no upload phase.
    """
    object_id = site.segments[0] if site.segments else ""
    node = _owner(world, token) if object_id == "me" else world.objects.get(object_id)
    if node is None or len(site.segments) > 2 or token is None or not _may_use(token, node):
        raise answers.unsupported(method, object_id)
    account = _account_of(node)
    if len(site.segments) == 2:
        endpoint = _edge(node, method, site.segments[1], parameters.values)
    else:
        endpoint = _node(node, method)
    if endpoint is None:
        raise answers.unsupported(method, object_id)
    if account is not None:
        check_scope(token, account, method)
    subjects = _subjects(world, endpoint, node, parameters)
    return Call(endpoint, request, method, site, parameters, account, node, token, subjects)


def _owner(world: World, token: Token | None) -> Node | None:
    if token is None:
        return None
    if token.user_id is not None:
        return world.users.get(token.user_id)
    # A Page token's owner is the Page, also where it serves the Page's Instagram account too.
    accounts = sorted(token.accounts.values(), key=lambda it: it.platform is not Platform.FACEBOOK)
    return accounts[0] if accounts else None


def _account_of(node: Node) -> Account | None:
    match node:
        case Account():
            return node
        case User():
            return None
        case _:
            return node.account


def _may_use(token: Token, node: Node) -> bool:
    account = _account_of(node)
    if account is None:
        return isinstance(node, User) and node.id == token.user_id
    return account.id in token.accounts


def _subjects(world: World, endpoint: Endpoint, node: Node, parameters: Parameters) -> tuple[str, ...]:
    values = parameters.values
    if isinstance(node, Container | Photo | Video | Post):
        return node.source_urls
    if not isinstance(node, Account):
        return ()
    made_from: Made | None = None
    match endpoint:
        case Endpoint.PUBLISH_CONTAINER:
            made_from = instagram.find_container(world, node, values.get("creation_id", ""))
        case Endpoint.PUBLISH_PHOTO_STORY:
            made_from = page_photos.find_photo(world, node, values.get("photo_id"))
        case Endpoint.FINISH_VIDEO_STORY | Endpoint.FINISH_REEL:
            made_from = page_videos.find_video(world, node, values.get("video_id"))
        case _:
            named = ("image_url", "video_url", "url", "file_url", "link", "message", "caption", "description")
            sent = (parameters.file.name,) if parameters.file else ()
            return (*(value for name in named if (value := values.get(name))), *sent)
    return made_from.source_urls if made_from else ()


def _edge(node: Node, method: str, edge: str, values: dict[str, str]) -> Endpoint | None:
    match node:
        case User() if (method, edge) == ("GET", "accounts"):
            return Endpoint.LIST_ACCOUNTS
        case Post() if (method, edge) == ("GET", "children") and node.medium is Medium.CAROUSEL:
            return Endpoint.LIST_CHILDREN
        case Account():
            return _account_edge(node, method, edge, values)
        case _:
            return None


def _account_edge(account: Account, method: str, edge: str, values: dict[str, str]) -> Endpoint | None:
    phase = values.get("upload_phase", "").lower()
    is_phased = account.platform is Platform.FACEBOOK and method == "POST" and (edge, "start") in _PHASES
    if is_phased and (phase or edge != "videos"):
        endpoint = _PHASES.get((edge, phase))
        if endpoint is None:
            raise answers.invalid_parameter("The parameter upload_phase is required: START or FINISH")
        return endpoint
    endpoint = _EDGES.get((account.platform, method, edge))
    if endpoint is Endpoint.UPLOAD_PHOTO and is_true(values, "published", default=True):
        return Endpoint.PUBLISH_PHOTO
    return endpoint


def _node(node: Node, method: str) -> Endpoint | None:
    if method == "DELETE" and isinstance(node, Photo | Post):
        return Endpoint.DELETE_OBJECT
    if method != "GET":
        return None
    match node:
        case Account():
            return Endpoint.READ_ACCOUNT
        case User():
            return Endpoint.READ_USER
        case Container():
            return Endpoint.CONTAINER_STATUS
        case Photo():
            return Endpoint.READ_PHOTO
        case Video():
            return Endpoint.VIDEO_STATUS
        case Post() if node.account.platform == Platform.INSTAGRAM or node.placement is Placement.ITEM:
            return Endpoint.READ_MEDIA
        case Post():
            return Endpoint.READ_POST
