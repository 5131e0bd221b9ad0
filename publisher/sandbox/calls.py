"""What a request asks for: a closed set of endpoints, and the object that the call is about."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aiohttp import web

from publisher.sandbox import answers, facebook, instagram
from publisher.sandbox.objects import Account, Container, Node, Photo, Platform, Post, Video
from publisher.sandbox.parameters import Parameters
from publisher.sandbox.world import World


class Endpoint(StrEnum):
    """Every call that the sandbox answers with something else than an error."""

    CREATE_CONTAINER = "create_container"
    CONTAINER_STATUS = "container_status"
    PUBLISH_CONTAINER = "publish_container"
    PUBLISHING_LIMIT = "publishing_limit"
    LIST_STORIES = "list_stories"
    READ_MEDIA = "read_media"
    UPLOAD_PHOTO = "upload_photo"
    PUBLISH_PHOTO_STORY = "publish_photo_story"
    START_VIDEO_STORY = "start_video_story"
    UPLOAD_VIDEO = "upload_video"
    VIDEO_STATUS = "video_status"
    FINISH_VIDEO_STORY = "finish_video_story"
    READ_PHOTO = "read_photo"
    READ_POST = "read_post"
    READ_ACCOUNT = "read_account"
    DELETE_OBJECT = "delete_object"
    DEBUG_TOKEN = "debug_token"  # noqa: S105  # the name of an endpoint


@dataclass(slots=True)
class Call:
    """A call whose token is good and whose object exists and belongs to the token."""

    endpoint: Endpoint
    request: web.BaseRequest
    parameters: Parameters
    account: Account | None
    node: Node | None
    media_url: str | None

    @property
    def values(self) -> dict[str, str]:
        """The parameters."""
        return self.parameters.values


_EDGES: Final = {
    (Platform.INSTAGRAM, "POST", "media"): Endpoint.CREATE_CONTAINER,
    (Platform.INSTAGRAM, "POST", "media_publish"): Endpoint.PUBLISH_CONTAINER,
    (Platform.INSTAGRAM, "GET", "content_publishing_limit"): Endpoint.PUBLISHING_LIMIT,
    (Platform.INSTAGRAM, "GET", "stories"): Endpoint.LIST_STORIES,
    (Platform.FACEBOOK, "POST", "photos"): Endpoint.UPLOAD_PHOTO,
    (Platform.FACEBOOK, "POST", "photo_stories"): Endpoint.PUBLISH_PHOTO_STORY,
    (Platform.FACEBOOK, "GET", "stories"): Endpoint.LIST_STORIES,
}


def resolve(
    world: World, token: str | None, request: web.BaseRequest, segments: list[str], parameters: Parameters
) -> Call:
    """Find the object and the endpoint that a call names.

    Raises:
        GraphError: 100/33, there is none that this token may use in this way; 100, no upload phase.
    """
    object_id = segments[0] if segments else ""
    node = world.objects.get(object_id)
    account = node.account if isinstance(node, Container | Photo | Video | Post) else node
    if node is None or account is None or account.token.value != token or len(segments) > 2:
        raise answers.unsupported(request.method, object_id)
    if len(segments) == 2:
        endpoint = _edge(account, node, request.method, segments[1], parameters.values)
    else:
        endpoint = _node(node, request.method)
    if endpoint is None:
        raise answers.unsupported(request.method, object_id)
    return Call(endpoint, request, parameters, account, node, media_url(world, endpoint, node, parameters))


def media_url(world: World, endpoint: Endpoint, node: Node, parameters: Parameters) -> str | None:
    """Return the URL (of an uploaded file, the name) of the media that a call is about, if there is one.

    Scripted faults choose by it.
    """
    values = parameters.values
    if not isinstance(node, Account):
        return node.source_url
    made_from: Container | Photo | Video | None = None
    match endpoint:
        case Endpoint.CREATE_CONTAINER:
            return values.get("image_url") or values.get("video_url")
        case Endpoint.UPLOAD_PHOTO:
            return values.get("url") or (parameters.file.name if parameters.file else None)
        case Endpoint.PUBLISH_CONTAINER:
            made_from = instagram.find_container(world, node, values.get("creation_id", ""))
        case Endpoint.PUBLISH_PHOTO_STORY:
            made_from = facebook.find_photo(world, node, values.get("photo_id"))
        case Endpoint.FINISH_VIDEO_STORY:
            made_from = facebook.find_video(world, node, values.get("video_id"))
    return made_from.source_url if made_from else None


def _edge(account: Account, node: Node, method: str, edge: str, values: dict[str, str]) -> Endpoint | None:
    if node is not account:
        return None
    if (account.platform, method, edge) != (Platform.FACEBOOK, "POST", "video_stories"):
        return _EDGES.get((account.platform, method, edge))
    match values.get("upload_phase", "").lower():
        case "start":
            return Endpoint.START_VIDEO_STORY
        case "finish":
            return Endpoint.FINISH_VIDEO_STORY
        case _:
            raise answers.invalid_parameter("The parameter upload_phase is required: START or FINISH")


def _node(node: Node, method: str) -> Endpoint | None:
    if method == "DELETE" and isinstance(node, Photo | Post):
        return Endpoint.DELETE_OBJECT
    if method != "GET":
        return None
    match node:
        case Account():
            return Endpoint.READ_ACCOUNT
        case Container():
            return Endpoint.CONTAINER_STATUS
        case Photo():
            return Endpoint.READ_PHOTO
        case Video():
            return Endpoint.VIDEO_STATUS
        case Post() if node.account.platform == Platform.INSTAGRAM:
            return Endpoint.READ_MEDIA
        case Post():
            return Endpoint.READ_POST
