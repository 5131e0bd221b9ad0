"""The calls by name: what faults and counts go by."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Endpoint(StrEnum):
    """Every call that the sandbox answers with something else than an error."""

    CREATE_CONTAINER = "create_container"
    UPLOAD_CONTAINER = "upload_container"
    CONTAINER_STATUS = "container_status"
    PUBLISH_CONTAINER = "publish_container"
    PUBLISHING_LIMIT = "publishing_limit"
    LIST_STORIES = "list_stories"
    LIST_MEDIA = "list_media"
    READ_MEDIA = "read_media"
    LIST_CHILDREN = "list_children"
    UPLOAD_PHOTO = "upload_photo"
    PUBLISH_PHOTO = "publish_photo"
    PUBLISH_PHOTO_STORY = "publish_photo_story"
    CREATE_POST = "create_post"
    LIST_FEED = "list_feed"
    LIST_PUBLISHED_POSTS = "list_published_posts"
    START_VIDEO_STORY = "start_video_story"
    FINISH_VIDEO_STORY = "finish_video_story"
    START_REEL = "start_reel"
    FINISH_REEL = "finish_reel"
    LIST_REELS = "list_reels"
    CREATE_VIDEO = "create_video"
    START_VIDEO = "start_video"
    TRANSFER_VIDEO = "transfer_video"
    FINISH_VIDEO = "finish_video"
    UPLOAD_VIDEO = "upload_video"
    VIDEO_STATUS = "video_status"
    READ_PHOTO = "read_photo"
    READ_POST = "read_post"
    READ_ACCOUNT = "read_account"
    READ_USER = "read_user"
    DELETE_OBJECT = "delete_object"
    DEBUG_TOKEN = "debug_token"  # noqa: S105  # the name of an endpoint
    LIST_ACCOUNTS = "list_accounts"
    EXCHANGE_TOKEN = "exchange_token"  # noqa: S105  # the name of an endpoint
    REFRESH_TOKEN = "refresh_token"  # noqa: S105  # the name of an endpoint


# What can't be taken back.
PUBLISHING: Final = frozenset(
    {
        Endpoint.PUBLISH_CONTAINER,
        Endpoint.PUBLISH_PHOTO,
        Endpoint.PUBLISH_PHOTO_STORY,
        Endpoint.CREATE_POST,
        Endpoint.FINISH_VIDEO_STORY,
        Endpoint.FINISH_REEL,
        Endpoint.CREATE_VIDEO,
        Endpoint.FINISH_VIDEO,
    }
)
# What takes an image, and fetches it at once.
TAKING_IMAGES: Final = frozenset({Endpoint.CREATE_CONTAINER, Endpoint.UPLOAD_PHOTO, Endpoint.PUBLISH_PHOTO})
# What takes media that may fail later.
TAKING_MEDIA: Final = frozenset({Endpoint.CREATE_CONTAINER, Endpoint.UPLOAD_CONTAINER, Endpoint.UPLOAD_VIDEO})
# What asks for one object: these reads were seen to fail for days while publishing worked.
READING_OBJECTS: Final = frozenset(
    {
        Endpoint.CONTAINER_STATUS,
        Endpoint.READ_MEDIA,
        Endpoint.VIDEO_STATUS,
        Endpoint.READ_PHOTO,
        Endpoint.READ_POST,
    }
)
