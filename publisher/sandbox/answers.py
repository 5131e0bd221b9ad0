"""The Graph errors that the sandbox raises itself.

They follow Meta's error-handling guide and Instagram's error-code page; where those
print no text, bodies recorded in public issues do. `error_user_*` and `is_transient` are there only where a
recorded body has them: a client must not lean on them.
"""

from __future__ import annotations

from publisher.sandbox.graph_error import GraphError

RATE_LIMIT_PAGE = "https://developers.facebook.com/docs/graph-api/overview/rate-limiting"
# Limits of the app, the user, the Page and the business (Meta: Rate Limiting overview).
LIMIT_CODES = frozenset({4, 17, 32, 613, 80001, 80002})
GRAPH_API_PAGE = "https://developers.facebook.com/docs/graph-api"


def unsupported(method: str, object_id: str) -> GraphError:
    """No such object, not yours, or not for this verb: Graph tells these apart by nothing."""
    return GraphError(
        f"Unsupported {method.lower()} request. Object with ID '{object_id}' does not exist, cannot be loaded "
        "due to missing permissions, or does not support this operation. Please read the Graph API "
        f"documentation at {GRAPH_API_PAGE}",
        code=100,
        subcode=33,
        kind="GraphMethodException",
    )


def nonexisting_field(name: str) -> GraphError:
    """The caller asked for a field that the object has not."""
    return GraphError(f"(#100) Tried accessing nonexisting field ({name})", code=100)


def invalid_parameter(reason: str) -> GraphError:
    """A parameter is missing or can't be read."""
    return GraphError(f"(#100) {reason}", code=100)


def invalid_token() -> GraphError:
    """No token, or one that was never issued."""
    return GraphError("Invalid OAuth access token - Cannot parse access token", code=190)


def wrong_app() -> GraphError:
    """The app's id or secret is another."""
    return GraphError("Error validating client secret.", code=101)


def token_too_young() -> GraphError:
    """An Instagram User token is refreshed after a day; the words are not documented."""
    return GraphError("(#100) The access token must be at least 24 hours old to be refreshed", code=100)


def permission_missing() -> GraphError:
    """Deleting an Instagram story is refused in these words."""
    return GraphError("(#10) Insufficient permissions to access this data", code=10)


def scope_missing(scope: str | None) -> GraphError:
    """The token was not given a permission: in words that were recorded, or that Meta prints for a Page's."""
    if scope is None:
        return GraphError("(#10) Application does not have permission for this action", code=10)
    return GraphError(f"(#200) Requires {scope} permission to manage the object", code=200)


def unknown_media_type(media_type: str) -> GraphError:
    """`media_type` is missing, or not one that the sandbox publishes."""
    return GraphError(
        "Invalid parameter",
        code=100,
        subcode=2207023,
        is_transient=False,
        title="Unknown media type",
        advice=f"The media type {media_type} is unknown.",
    )


def media_unreachable(url: str) -> GraphError:
    """An image could not be fetched; the message speaks of something else, as the recorded one does."""
    return GraphError(
        "Only photo or video can be accepted as media type.",
        code=9004,
        subcode=2207052,
        is_transient=False,
        title="Media download has failed. The media URI doesn't meet our requirements.",
        advice=f"The media could not be fetched from this URI: {url}",
    )


def media_timed_out() -> GraphError:
    """The media server was too slow."""
    return GraphError(
        "Timeout",
        code=-2,
        subcode=2207003,
        is_transient=False,
        title="Media download timed out",
        advice="It takes too long to download the media.",
    )


def image_too_large() -> GraphError:
    """A story image has at most 8 MiB."""
    return GraphError(
        "The image size is too large.",
        code=36000,
        subcode=2207004,
        is_transient=False,
        title="Image size too large",
        advice="The image is too large to download. It should be less than 8 MiB.",
    )


def image_format_unsupported() -> GraphError:
    """A story image is JPEG."""
    return GraphError(
        "The image format is not supported.",
        code=36001,
        subcode=2207005,
        is_transient=False,
        title="Unsupported image format",
        advice="The image format is not supported. Supported formats are JPEG.",
    )


def aspect_ratio_wrong() -> GraphError:
    """A feed image is between 4:5 and 1.91:1."""
    return GraphError(
        "The submitted image has an aspect ratio that is not supported.",
        code=36003,
        subcode=2207009,
        is_transient=False,
        title="Aspect ratio not supported",
        advice="The aspect ratio is not supported. The image must have an aspect ratio between 4:5 and 1.91:1.",
    )


def caption_too_long() -> GraphError:
    """A caption has at most 2,200 characters, 30 hashtags and 20 mentions."""
    return GraphError(
        "The caption is too long.",
        code=36004,
        subcode=2207010,
        is_transient=False,
        title="Caption too long",
        advice="The caption was too long. It can have at most 2,200 characters, 30 hashtags and 20 @ tags.",
    )


def carousel_length_wrong() -> GraphError:
    """A carousel has 2 to 10 items."""
    return GraphError(
        "Invalid parameter",
        code=100,
        subcode=2207028,
        is_transient=False,
        title="Carousel validation failed",
        advice="Your post won't work as a carousel. Carousels need at least 2 photos/videos and no more than 10.",
    )


def tags_on_carousel() -> GraphError:
    """People are tagged on a carousel's items, not on the carousel (observed, show_lister)."""
    return GraphError(
        "Invalid parameter",
        code=100,
        subcode=2207065,
        is_transient=False,
        title="User tags not supported",
        advice="User tags are not supported on a carousel: tag its items.",
    )


def thumbnail_offset_wrong() -> GraphError:
    """`thumb_offset` lies outside of the video."""
    return GraphError(
        "Invalid thumbnail offset",
        code=1,
        subcode=2207057,
        is_transient=False,
        title="Invalid thumbnail offset",
        advice="The thumbnail offset must be greater than or equal to 0 and less than the duration of the video.",
    )


def not_ready() -> GraphError:
    """The container is not FINISHED; a recorded body."""
    return GraphError(
        "Media ID is not available",
        code=9007,
        subcode=2207027,
        is_transient=False,
        title="Cannot Publish",
        advice="The media is not ready for publishing, please wait for a moment",
    )


def container_not_found(creation_id: str) -> GraphError:
    """No such container for this account, or it expired."""
    return GraphError(
        "The requested resource does not exist",
        code=24,
        subcode=2207008,
        is_transient=False,
        title="Cannot Find Media Builder",
        advice=f"The media builder with creation id = {creation_id} does not exist or has been expired.",
    )


def quota_used_up(what: str) -> GraphError:
    """The account published, or prepared, as much as it may in 24 hours."""
    return GraphError(
        "(#9) Application request limit reached",
        code=9,
        subcode=2207042,
        is_transient=False,
        title="Quota reached",
        advice=f"You reached the maximum number of {what} that the Content Publishing API allows in 24 hours.",
    )


def already_published() -> GraphError:
    """Answers a repeated publish while `republish` is `error`; Meta documents no answer."""
    return GraphError(
        "(#100) The media has already been published", code=100, is_transient=False, title="already published"
    )


def image_file_invalid() -> GraphError:
    """A Page photo could not be fetched or read; called transient even when it is not, as recorded."""
    return GraphError("Missing or invalid image file", code=324, subcode=2069019, is_transient=True)


def upload_incomplete() -> GraphError:
    """`finish` came before the file, or the file can't be used (Meta: Video API error codes)."""
    return GraphError(
        "(#6000) There was a problem uploading your video file. Please try again with another file.",
        code=6000,
        is_transient=False,
    )


def upload_offset_wrong(start: int, end: int) -> GraphError:
    """A chunk began at another offset than the one that is due (Meta: Video API error codes)."""
    return GraphError(
        "(#1363037) There was a problem uploading your video file. The start offset is wrong.",
        code=1363037,
        data={"start_offset": str(start), "end_offset": str(end)},
    )


def video_too_large() -> GraphError:
    """A video has at most 2 GB (Meta: Video API error codes)."""
    return GraphError("(#1363023) The video file you tried to upload is too large.", code=1363023)


def upload_session_gone() -> GraphError:
    """No such upload session (Meta: Video API error codes)."""
    return GraphError("(#1363041) The upload session is expired.", code=1363041)


def photos_posted_already() -> GraphError:
    """Attached photos are in a post already (postiz-app)."""
    return GraphError("(#100) These photos were already posted.", code=100, subcode=1366051)


def link_invalid() -> GraphError:
    """`link` is no address."""
    return GraphError("(#1500) The url you supplied is invalid", code=1500)


def link_to_facebook() -> GraphError:
    """`link` leads to facebook.com."""
    return GraphError("(#200) Links to facebook.com can't be posted", code=200, subcode=1609008)


def reels_used_up() -> GraphError:
    """30 reels in 24 hours (Meta: Reels Publishing guide); the answer beyond them is not documented."""
    return GraphError("(#613) Calls to this api have exceeded the rate limit.", code=613)


def service_failed() -> GraphError:
    """Graph's "service" error (Meta: error-handling guide)."""
    return GraphError(
        "An unexpected error has occurred. Please retry your request later.",
        code=2,
        status=500,
        is_transient=True,
    )


def unknown_failure() -> GraphError:
    """Graph's "unknown" error (Meta: error-handling guide)."""
    return GraphError("An unknown error occurred", code=1, status=500)


def instagram_failed() -> GraphError:
    """Instagram's own server error."""
    return GraphError("Fatal", code=-1, subcode=2207001, is_transient=False)


def app_limit_reached() -> GraphError:
    """The app as a whole called too often."""
    return GraphError("(#4) Application request limit reached", code=4)


def action_blocked() -> GraphError:
    """Suspected spam; seen on publishes that went live all the same (postiz-app#1681)."""
    return GraphError(
        "Application request limit reached",
        code=4,
        subcode=2207051,
        status=403,
        is_transient=False,
        title="Action is blocked",
        advice="We restrict certain activity to protect our community.",
    )


def page_limit_reached() -> GraphError:
    """The user called a Page too often (Meta: Rate Limiting overview)."""
    return GraphError("(#32) Page request limit reached", code=32)


def page_calls_limited() -> GraphError:
    """The Page's business use case is over its limit (Meta: Rate Limiting overview)."""
    return GraphError(
        "(#80001) There have been too many calls to this Page account. Wait a bit and try again. For more info, "
        f"please refer to {RATE_LIMIT_PAGE}.",
        code=80001,
    )
