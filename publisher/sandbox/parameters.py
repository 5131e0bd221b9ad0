"""The parameters of a call, wherever they stand: query, form, multipart or JSON body, headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

# Above what a photo (10 MB) or a chunk of a video has; one byte more tells that a file has more.
FILE_BYTES_MAX: Final = 16_000_000
_FIELD_BYTES_MAX: Final = 1_000_000
_SECRETS: Final = frozenset({"access_token", "appsecret_proof", "input_token", "client_secret", "app_secret"})


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file in a multipart body; `content` is cut one byte after the most that any call takes."""

    name: str
    content: bytes


@dataclass(slots=True)
class Parameters:
    """What a call carries."""

    values: dict[str, str]
    token: str | None = None
    file: SentFile | None = None
    problem: str | None = None
    structured: frozenset[str] = frozenset()
    """The names whose values were lists or objects of a JSON body."""


def bearer(request: web.BaseRequest) -> str | None:
    """Return the token of the Authorization header; the upload host says OAuth for Bearer."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() in ("bearer", "oauth") else None


async def read_parameters(request: web.BaseRequest) -> Parameters:
    """Read the query and the body; the body wins. A body that can't be read is told, not raised.

    Whoever calls checks the token first and the problem afterwards, as Graph does.
    """
    parameters = Parameters(dict(request.query))
    if not request.body_exists:
        return parameters
    content_type = request.content_type
    try:
        if content_type == "application/x-www-form-urlencoded":
            text = (await request.read()).decode("utf-8", "replace")
            parameters.values.update(parse_qsl(text, keep_blank_values=True))
        elif content_type == "application/json":
            document = _load_object(await request.read())
            parameters.values.update({name: _as_text(it) for name, it in document.items() if it is not None})
            parameters.structured = frozenset(name for name, it in document.items() if isinstance(it, list | dict))
        elif content_type.startswith("multipart/"):
            await _read_multipart(request, parameters)
    except web.HTTPRequestEntityTooLarge:
        parameters.problem = "The request is too large"
    except (ValueError, AssertionError, LookupError, RuntimeError, web.RequestPayloadError, HttpProcessingError):
        parameters.problem = "The request's body can't be read as its Content-Type says"
    return parameters


def redacted(values: dict[str, str], tokens: frozenset[str]) -> dict[str, str]:
    """Return the parameters without secrets: neither under their names nor inside other values."""
    return {
        name: "[redacted]" if name.lower() in _SECRETS else redacted_text(value, tokens)
        for name, value in values.items()
    }


def redacted_text(text: str, tokens: frozenset[str]) -> str:
    """Return a text without the tokens in it."""
    for token in tokens:
        if token in text:
            text = text.replace(token, "[redacted]")
    return text


def _load_object(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    document = orjson.loads(body)
    if not isinstance(document, dict):
        raise ValueError("a JSON body is an object")
    return document


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


async def _read_multipart(request: web.BaseRequest, parameters: Parameters) -> None:
    reader = await request.multipart()
    remaining = _FIELD_BYTES_MAX
    async for part in reader:
        if not isinstance(part, BodyPartReader):
            continue
        if part.filename is not None:
            parameters.file = SentFile(part.filename, await _read_part(part, FILE_BYTES_MAX))
        elif part.name is not None:
            content = await _read_part(part, remaining)
            remaining -= len(content)
            if remaining < 0:
                raise ValueError("the fields are too large")
            parameters.values[part.name] = content.decode("utf-8", "replace")


async def _read_part(part: BodyPartReader, size_bytes_max: int) -> bytes:
    """Read a part to its end, so that the next can be read, and keep one byte more than the most."""
    content = bytearray()
    while chunk := await part.read_chunk():
        if len(content) <= size_bytes_max:
            content += chunk
    return bytes(content[: size_bytes_max + 1])
