"""From texts to values; what doesn't fit is bad usage, in one sentence."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, NoReturn, TypeAlias

import orjson
import typer

from outbox.event import JsonObject

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
DURATION_DAYS_MAX = 36_500
RATE_MAX = 10_000
INSTANT_EXAMPLE = "2026-07-29T18:00:00Z"
ID_MAX = 2**63 - 1

EventIdArgument: TypeAlias = Annotated[int, typer.Argument(metavar="ID", min=1, max=ID_MAX, help="The event.")]
EventIdsArgument: TypeAlias = Annotated[
    list[int] | None, typer.Argument(metavar="ID", min=1, max=ID_MAX, help="The events.")
]

_DURATION = re.compile(r"(?:[0-9]{1,12}[smhd])+")
_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)/([smhd])")
_PART = re.compile(r"([0-9]+)([smhd])")


@dataclass(frozen=True, slots=True)
class When:
    """An instant, or a distance from now by the database's clock, negative in the past."""

    instant: datetime | None = None
    distance: timedelta = timedelta()


def resolve(when: When | None, now: datetime) -> datetime | None:
    """Return the instant that is meant, where now is `now`."""
    if when is None:
        return None
    return now + when.distance if when.instant is None else when.instant


def parse_past(text: str) -> When:
    """Read 2h as two hours ago, or an instant."""
    if _DURATION.fullmatch(text):
        return When(distance=-_duration(text))
    return When(_instant(text, "2h"))


def parse_future(text: str) -> When:
    """Read +10m as in ten minutes, or an instant."""
    if text.startswith("+"):
        return When(distance=_duration(text[1:]))
    return When(_instant(text, "+10m"))


def parse_duration(text: str) -> timedelta:
    """Read 2h as two hours."""
    return _duration(text)


def parse_rate(text: str) -> float:
    """Read 50/s, 90/m or 1000/h as so many a second."""
    match = _RATE.fullmatch(text)
    if match is None or not 0 < float(match[1]) / UNIT_SECONDS[match[2]] <= RATE_MAX:
        raise typer.BadParameter(f"expected a rate such as 50/s, 90/m or 1000/h, {RATE_MAX}/s at most, found {text!r}")
    return float(match[1]) / UNIT_SECONDS[match[2]]


def parse_payload(text: str) -> JsonObject:
    """Read a JSON object from a text, from the file behind @, or from standard input for -."""
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise typer.BadParameter(f"expected a file with JSON at {text[1:]}, found: {reason}") from None
    try:
        payload = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(
            f"expected a JSON object, found another text: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except ValueError:
        raise typer.BadParameter(
            "expected JSON that every client can hold, found a number of thousands of digits"
        ) from None
    except RecursionError:
        raise typer.BadParameter("expected a JSON object, found one that is nested too deeply") from None
    if not isinstance(payload, dict):
        raise typer.BadParameter(f"expected a JSON object such as {{}}, found {_kind(payload)}")
    try:
        orjson.dumps(payload)
    except TypeError as error:
        raise typer.BadParameter(
            f"expected JSON that PostgreSQL and every client can hold, found: {error}; write long numbers as texts"
        ) from None
    return payload


def parse_headers(texts: Sequence[str]) -> JsonObject:
    """Read name=value pairs."""
    headers: JsonObject = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise typer.BadParameter("expected a header as name=value, found one without a name or without =")
        if name in headers:
            raise typer.BadParameter(f"expected each header once, found {name} twice")
        headers[name] = value
    return headers


def _duration(text: str) -> timedelta:
    if not _DURATION.fullmatch(text):
        raise typer.BadParameter(f"expected a duration such as 90s, 15m, 2h or 7d, found {text!r}")
    seconds = sum(int(count) * UNIT_SECONDS[unit] for count, unit in _PART.findall(text))
    if seconds > DURATION_DAYS_MAX * UNIT_SECONDS["d"]:
        raise typer.BadParameter(f"expected a duration of {DURATION_DAYS_MAX}d at most, found {text!r}")
    return timedelta(seconds=seconds)


def _instant(text: str, duration_example: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"expected a duration such as {duration_example} or an instant such as {INSTANT_EXAMPLE}, found {text!r}"
        ) from None
    if instant.tzinfo is None:
        raise typer.BadParameter(
            f"expected an instant with its offset such as {INSTANT_EXAMPLE}, found {text!r}; Z is UTC"
        )
    return instant


def _refuse_constant(name: str) -> NoReturn:
    raise typer.BadParameter(f"expected a JSON object, found the number {name}, which JSON does not have")


def _kind(value: object) -> str:
    match value:
        case list():
            return "an array"
        case str():
            return "a text"
        case bool() | None:
            return json.dumps(value)
        case _:
            return "a number"
