"""Structured logs: JSON in production, readable on a terminal, never a secret."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TextIO, cast

import orjson
import structlog

from relay.redaction import redact, redact_value


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
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Forgiving(sys.stderr))),
        cache_logger_on_first_use=True,
    )


@dataclass(slots=True, eq=False, weakref_slot=True)
class _Forgiving:
    """A stream that may fail: that its reader has gone, or its disk is full, ends nothing."""

    stream: TextIO

    def write(self, text: str) -> None:
        try:
            self.stream.write(text)
        except BrokenPipeError:
            with open(os.devnull, "w") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), self.stream.fileno())  # nobody will read what follows either
        except OSError:
            pass

    def flush(self) -> None:
        with suppress(OSError):
            self.stream.flush()


def redact_values(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Redact a log event, however deep a secret lies in it (a structlog processor)."""
    for name, value in event.items():
        event[name] = redact_value(name, value)
    return event


def _write_traceback(stream: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    stream.write(redact("".join(traceback.format_exception(*exc_info))))
