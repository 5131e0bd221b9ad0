"""Errors that a script can name by code and subcode alone: their words, types and statuses are Meta's.

Sources: Meta's error-handling guide, Rate Limiting overview, Instagram error codes and Video API error codes; bodies
recorded in production where there are some.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from publisher.sandbox import answers
from publisher.sandbox.calls import Call
from publisher.sandbox.graph_error import GraphError
from publisher.sandbox.tokens import STATE_ERRORS


def known_error(code: int, subcode: int | None, call: Call) -> GraphError | None:
    """Return the error in Meta's words, if they are known; some speak of the call."""
    match code, subcode:
        case 9, 2207042:
            return answers.quota_used_up("posts")
        case 24, 2207008:
            return answers.container_not_found(call.values.get("creation_id", ""))
        case 100, 33:
            return answers.unsupported(call.method, call.node.id if call.node else "")
        case 100, 2207023:
            return answers.unknown_media_type(call.values.get("media_type", ""))
        case 9004, 2207052:
            return answers.media_unreachable(call.subjects[0] if call.subjects else "")
        case 190, int() if subcode in STATE_ERRORS:
            return GraphError(STATE_ERRORS[subcode], code=190, subcode=subcode)
    built = _BUILT.get((code, subcode))
    if built is not None:
        return built()
    message = _MESSAGES.get((code, subcode))
    if message is None:
        return None
    return GraphError(message, code=code, subcode=subcode, status=403 if code == 200 else 400)


_BUILT: Final[dict[tuple[int, int | None], Callable[[], GraphError]]] = {
    (-2, 2207003): answers.media_timed_out,
    (-1, 2207001): answers.instagram_failed,
    (1, None): answers.unknown_failure,
    (1, 2207057): answers.thumbnail_offset_wrong,
    (2, None): answers.service_failed,
    (4, None): answers.app_limit_reached,
    (4, 2207051): answers.action_blocked,
    (32, None): answers.page_limit_reached,
    (100, 2207028): answers.carousel_length_wrong,
    (100, 2207065): answers.tags_on_carousel,
    (100, 1366051): answers.photos_posted_already,
    (190, None): answers.invalid_token,
    (200, 1609008): answers.link_to_facebook,
    (324, 2069019): answers.image_file_invalid,
    (613, None): answers.reels_used_up,
    (1500, None): answers.link_invalid,
    (6000, None): answers.upload_incomplete,
    (9007, 2207027): answers.not_ready,
    (36000, 2207004): answers.image_too_large,
    (36001, 2207005): answers.image_format_unsupported,
    (36003, 2207009): answers.aspect_ratio_wrong,
    (36004, 2207010): answers.caption_too_long,
    (80001, None): answers.page_calls_limited,
    (1363023, None): answers.video_too_large,
    (1363041, None): answers.upload_session_gone,
}
_MESSAGES: Final[dict[tuple[int, int | None], str]] = {
    (-2, 2207020): "The media you are trying to access has expired.",
    (-1, 2207032): "Create media failed, please try to re-create media.",
    (-1, 2207053): "unknown upload error",
    (3, None): "(#3) Application does not have the capability to make this API call.",
    (10, None): "(#10) Application does not have permission for this action",
    (17, None): "(#17) User request limit reached",
    (24, 2207006): "The media with the given id can not be found",
    (25, 2207050): "User access is restricted",
    (102, None): "Session key invalid or no longer valid",
    (200, None): "(#200) Permissions error",
    (341, None): "(#341) Feed action request limit reached",
    (352, 2207026): "The video format is not supported",
    (368, None): "The action attempted has been deemed abusive or is otherwise disallowed",
    (368, 1390008): "It looks like you were misusing this feature by going too fast.",
    (389, None): "(#389) Unable to fetch video file from URL.",
    (506, None): "(#506) Duplicate status message",
    (1609005, None): "(#1609005) The link could not be scraped.",
    (80002, None): (
        "(#80002) There have been too many calls to this Instagram account. Wait a bit and try again. For more info, "
        f"please refer to {answers.RATE_LIMIT_PAGE}."
    ),
}
