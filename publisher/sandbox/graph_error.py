"""A Graph error and its two envelopes (Meta: error-handling guide; Resumable Uploads)."""

from __future__ import annotations

import json
from typing import Any

import orjson


class GraphError(Exception):
    """An error answer on its way to the client."""

    def __init__(
        self,
        message: str,
        *,
        code: int,
        subcode: int | None = None,
        status: int = 400,
        kind: str = "OAuthException",
        is_transient: bool | None = None,
        title: str | None = None,
        advice: str | None = None,
        data: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.subcode = subcode
        self.status = status
        self.kind = kind
        self.is_transient = is_transient
        self.title = title
        self.advice = advice
        self.data = data

    def envelope(self, trace_id: str) -> dict[str, Any]:
        """Return the body: only message, type, code and fbtrace_id are always in it."""
        error: dict[str, Any] = {"message": self.message, "type": self.kind, "code": self.code}
        if self.subcode is not None:
            error["error_subcode"] = self.subcode
        if self.is_transient is not None:
            error["is_transient"] = self.is_transient
        if self.title is not None:
            error["error_user_title"] = self.title
        if self.advice is not None:
            error["error_user_msg"] = self.advice
        if self.data is not None:
            error["error_data"] = self.data
        error["fbtrace_id"] = trace_id
        return {"error": error}

    def upload_report(self) -> dict[str, Any]:
        """Return the body as the upload host words it: no `error`, and JSON inside a string."""
        inner = {"success": False, "error": {"message": self.message}}
        return {
            "debug_info": {
                "retriable": bool(self.is_transient),
                "type": self.kind if self.kind.endswith("Error") else "ProcessingFailedError",
                "message": encode(inner).decode(),
            }
        }


def encode(body: object) -> bytes:
    """Return JSON; text that is not valid Unicode (a header can carry such) comes out escaped."""
    try:
        return orjson.dumps(body)
    except TypeError:
        return json.dumps(body, default=str).encode()
