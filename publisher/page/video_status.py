"""How far a video of a Page is, from its `status` object (sheet 2.2). Pure."""

from __future__ import annotations

from typing import Any

from publisher.placement import HandleState, HandleStatus
from publisher.uploads import is_complete, phase_of, phase_status, received_bytes


def video_status(status: Any) -> HandleStatus:
    """Read the `status` object of a video, with how much of it has arrived. Pure.

    A video whose processing has begun is not finished before it is through: a failure shows then, not after the
    irreversible call. One that was finished and is at work may still go live.
    """
    if not isinstance(status, dict):
        return HandleStatus(HandleState.GONE, "no status")
    state, text = _state(status)
    uploading = phase_of(status, "uploading_phase")
    return HandleStatus(state, text, received_bytes(uploading), is_complete(uploading))


def _state(status: dict[str, Any]) -> tuple[HandleState, str]:
    phases = {name: phase_of(status, f"{name}_phase") for name in ("uploading", "processing", "publishing")}
    if str(phases["publishing"].get("publish_status")).lower() == "published":
        return HandleState.PUBLISHED, ""
    for phase in phases.values():
        # A phase that failed may keep its status and only carry an error (Meta: Reels publishing guide).
        error = phase.get("error")
        if isinstance(error, dict) or phase_status(phase) == "error":
            return HandleState.FAILED, str(error.get("message", "")) if isinstance(error, dict) else ""
    overall = str(status.get("video_status")).lower()
    if overall in {"upload_failed", "error"}:
        return HandleState.FAILED, ""
    if overall == "expired":
        return HandleState.EXPIRED, ""
    is_at_work = any(phase_status(phase) == "in_progress" for phase in phases.values())
    is_uploaded = is_complete(phases["uploading"])
    if overall in {"upload_complete", "ready"} or is_uploaded:
        return (HandleState.PROCESSING if is_at_work else HandleState.READY), ""
    return HandleState.PROCESSING, ""
