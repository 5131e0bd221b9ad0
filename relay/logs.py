"""Structured logs: JSON in production, readable on a terminal, never a secret."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any, Literal, TextIO

import orjson
import structlog

_SECRETS = re.compile(
    r"""
    (?P<name>access_token|appsecret_proof|client_secret|app_secret|input_token|fb_exchange_token|password|token_keys)
    (?P<separator>["']?\s*[=:]\s*)(?:"[^"]*"|'[^']*'|[^\s"'&,}]+)
    | \b(?P<scheme>Bearer|OAuth)\s+[A-Za-z0-9_\-|.+/=~]{8,}
    | \b(?:EAA|IGAA|IGQ)[A-Za-z0-9_\-]{8,}
    | (?P<dsn>postgres(?:ql)?://[^:/@\s]*):\S*@
    | https?://\S+
    """,
    re.VERBOSE | re.IGNORECASE,
)

_SECRET_NAMES = re.compile(r"token|secret|password|proof|authorization|caption|media_url|dsn", re.IGNORECASE)


_SHORT = 64
_SHORT_MAX = 4096
"""Types, outcomes, keys: the same short texts are written again and again."""


def redact(text: str) -> str:
    """Strike out what may be a token, a password or a media URL."""
    return _redact_short(text) if len(text) <= _SHORT else _SECRETS.sub(_strike_out, text)


def configure(
    log_format: Literal["auto", "json", "console"], level: Literal["debug", "info", "warning", "error"]
) -> None:
    """Set up structlog for the process: one line an event, to stderr."""
    # What psycopg has to tell of an outage, the relay tells in one line.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    renderer: structlog.types.Processor
    if console:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_write_traceback)
    else:
        renderer = structlog.processors.JSONRenderer(
            serializer=lambda value, **_: orjson.dumps(value, default=str).decode()
        )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            *([] if console else [structlog.processors.format_exc_info]),
            redact_values,
            structlog.processors.add_log_level,  # no secret is in what is added here
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def redact_values(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Redact a log event, however deep a secret lies in it (a structlog processor)."""
    for name, value in event.items():
        event[name] = _redacted(name, value)
    return event


def _redacted(name: str, value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case _ if _is_secret(name):
            return "[redacted]"
        case str():
            return redact(value)
        case Mapping():
            return {str(inner): _redacted(str(inner), item) for inner, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_redacted("", item) for item in value]
        case _:
            return redact(str(value))


@lru_cache(_SHORT_MAX)
def _redact_short(text: str) -> str:
    return _SECRETS.sub(_strike_out, text)


@lru_cache(_SHORT_MAX)
def _is_secret(name: str) -> bool:
    return _SECRET_NAMES.search(name) is not None


def _write_traceback(stream: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    stream.write(redact("".join(traceback.format_exception(*exc_info))))


def _strike_out(match: re.Match[str]) -> str:
    if match["name"]:
        return f"{match['name']}{match['separator']}[redacted]"
    if match["scheme"]:
        return f"{match['scheme']} [redacted]"
    if match["dsn"]:
        return f"{match['dsn']}:[redacted]@"
    return "[redacted]"
