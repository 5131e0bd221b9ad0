"""How a container is read (Meta: IG Container reference; Resumable Uploads). Pure."""

from __future__ import annotations

from typing import Any, Final, assert_never

from publisher.sandbox import answers
from publisher.sandbox.fields import Readers, pick, wanted, with_id
from publisher.sandbox.instagram import NOT_FETCHED
from publisher.sandbox.objects import Container, MediaProblem, Medium
from publisher.sandbox.settings import Switches

# The number in a container's `status` text, by what was wrong with its video.
_SUBCODES: Final = {
    MediaProblem.UNREACHABLE: 2207052,
    MediaProblem.TIMED_OUT: 2207003,
    MediaProblem.TOO_LARGE: 2207026,
    MediaProblem.UNSUPPORTED: 2207026,
    MediaProblem.TOO_SMALL: 2207026,
    MediaProblem.ASPECT_RATIO: 2207026,
    MediaProblem.THUMBNAIL_OFFSET: 2207057,
}


def read_container(container: Container, requested: str | None, switches: Switches, now: float) -> dict[str, Any]:
    """Return the fields of a container: it has five, and the id of what it became is not among them.

    Raises:
        GraphError: 100, an unknown field; 100/33, it was published too long ago to be read.
    """
    readable_seconds = switches.published_readable_seconds
    if container.posts and readable_seconds is not None:
        published_at = container.posts[0].published_at
        if now > published_at + readable_seconds:
            raise answers.unsupported("get", container.id)
    readers: Readers[Container] = {
        "id": lambda it: it.id,
        "status": lambda it: _status_text(it, switches, now),
        "status_code": lambda it: it.status_code(now),
        "copyright_check_status": lambda it: {
            "status": "in_progress" if it.status_code(now) == "IN_PROGRESS" else "completed",
            "matches_found": False,
        },
        "video_status": lambda it: _video_status(it, now),
    }
    default = ("id",) if switches.container_default_fields == "id" else ("status_code",)
    return pick(container, with_id(wanted(requested, readers, default)), readers)


def failed_subcode(container: Container) -> int:
    """Return the number that says why a container is in ERROR; a carousel's is its child's."""
    if container.subcode is not None:
        return container.subcode
    if container.problem is not None:
        return _SUBCODES[container.problem]
    return next((failed_subcode(child) for child in container.children if _has_failed(child)), 2207032)


def _has_failed(container: Container) -> bool:
    return container.subcode is not None or container.problem is not None


def _status_text(container: Container, switches: Switches, now: float) -> str:
    match container.status_code(now):
        case "PUBLISHED":
            return "Published: Media has been successfully published."
        case "EXPIRED":
            return switches.expired_text
        case "ERROR":
            return f"Error: Media upload has failed with error code {failed_subcode(container)}"
        case "FINISHED":
            return "Finished: Media has been uploaded and it is ready to be published."
        case "IN_PROGRESS":
            return "In Progress: Media is still being processed."
        case never:
            assert_never(never)


def _video_status(container: Container, now: float) -> dict[str, Any] | None:
    """One letter apart from the Page's: `bytes_transferred` here, for files that are sent."""
    if container.medium is not Medium.VIDEO:
        return None
    uploading, processing = "complete", "complete"
    match container.status_code(now):
        case "IN_PROGRESS":
            has_file = container.checked or container.uploaded_at is not None
            uploading = "complete" if has_file else "in_progress"
            processing = "in_progress" if has_file else "not_started"
        case "ERROR" if container.problem in NOT_FETCHED:
            uploading, processing = "error", "not_started"
        case "ERROR":
            processing = "error"
    phase: dict[str, Any] = {"status": uploading}
    if container.awaits_upload:
        phase["bytes_transferred"] = container.received_bytes
    return {"uploading_phase": phase, "processing_phase": {"status": processing}}
