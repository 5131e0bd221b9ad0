"""What Graph's answers hold: a body, an error, or neither (sheet 4.1). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import SecretStr

from outbox.event import JsonObject
from publisher.errors import GraphError, NoAnswer
from publisher.placement import Endpoint
from publisher.usage import regain_seconds

# The upload host gives its errors no code (Meta: IG resumable uploads); this is the Video API's "problem uploading".
UPLOAD_PROBLEM = 6001


def read_answer(
    endpoint: Endpoint, status: int, headers: Mapping[str, str], body: bytes, token: SecretStr
) -> JsonObject:
    """Return the body of an answer.

    Raises:
        GraphError: It is an error, whatever the HTTP status; its message is without the token.
        NoAnswer: It is neither: HTTP 200 with HTML or plain text happens.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict):
        raise NoAnswer(f"expected JSON from {endpoint}, found HTTP {status} with another text")
    error = parsed.get("error")
    if isinstance(error, dict) and isinstance(error.get("code"), int):
        subcode = error.get("error_subcode")
        fbtrace_id = error.get("fbtrace_id")
        raise GraphError(
            endpoint,
            str(error.get("message", "")).replace(token.get_secret_value(), "<token>"),
            code=error["code"],
            subcode=subcode if isinstance(subcode, int) else None,
            status=status,
            fbtrace_id=fbtrace_id if isinstance(fbtrace_id, str) else None,
            regain_seconds=regain_seconds(headers),
            is_transient=bool(error["is_transient"]) if "is_transient" in error else None,
            resume_at=_resume_at(error.get("error_data")),
        )
    report = parsed.get("debug_info")
    if endpoint is Endpoint.VIDEO_UPLOAD and isinstance(report, dict):
        kind = str(report.get("type", "upload failed"))
        raise GraphError(endpoint, kind, code=UPLOAD_PROBLEM, status=status)
    if error is not None or parsed.get("success") is False or not 200 <= status <= 299:
        raise NoAnswer(f"expected a definite answer from {endpoint}, found HTTP {status} without an error code")
    return parsed


def required_id(endpoint: Endpoint, answer: JsonObject, name: str) -> str:
    """Return an id of an answer as text: Meta sends numbers at places, and ids exceed 2^53.

    Raises:
        NoAnswer: There is none; what the call did is not known.
    """
    value = answer.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.replace("_", "").isdecimal():
        raise NoAnswer(f"expected {name} in the answer to {endpoint}, found none")
    return value


def _resume_at(data: Any) -> int | None:
    """Return where an upload stands: `error_data` may be an object or a JSON string (sheet 4.1)."""
    if isinstance(data, str):
        try:
            data = orjson.loads(data)
        except orjson.JSONDecodeError:
            return None
    start = data.get("start_offset") if isinstance(data, dict) else None
    return int(start) if isinstance(start, int | str) and str(start).isdecimal() else None
