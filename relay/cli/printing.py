"""Data to stdout, words to stderr, no secret to either.

On a terminal data is a table; elsewhere it is lines of columns between tabs, without a heading; with `--json` it is one
JSON object a line. Instants are ISO 8601 in UTC.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias
from uuid import UUID

import typer

from relay.redaction import HIDDEN, is_secret, redact

JsonFlag: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON: one object a line.")]

PERMALINK = "permalink"

_PERMALINK = re.compile(r"https://[A-Za-z0-9.-]+/[A-Za-z0-9/_.-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def print_json(value: object) -> None:
    """Print one object as a line of JSON, without secrets."""
    import orjson  # noqa: PLC0415 (help needs none of it)

    document = orjson.dumps(to_json(value), option=orjson.OPT_UTC_Z)
    print(document.decode(), flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, heading: bool = True) -> None:
    """Print rows under their columns, without secrets."""
    texts = [[to_text(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in texts:
            print("\t".join(row), flush=True)
        return
    from rich import box  # noqa: PLC0415 (only for people)
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD if heading else None, show_header=heading, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in texts:
        table.add_row(*map(Text, row))
    Console(file=sys.stdout).print(table)


def say(text: str) -> None:
    """Tell people something, on stderr; nobody where that is closed."""
    if sys.stderr is not None:  # to print(), None is stdout
        print(text, file=sys.stderr, flush=True)


def to_json(value: Any) -> Any:
    """Turn dataclasses into objects, and strike out what may be a secret or a media URL."""
    match value:
        case str():
            return redact(value)
        case Mapping():
            return {name: _hidden(name, each) for name, each in value.items()}
        case list() | tuple():
            return [to_json(each) for each in value]
        case datetime():
            return value.astimezone(UTC)
        case _ if is_dataclass(value):
            return {each.name: _field(each.name, getattr(value, each.name)) for each in fields(value)}
        case _:
            return value


def to_text(value: object) -> str:
    """Show a value on one line, safe for a terminal."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case Mapping() | list():
            import orjson  # noqa: PLC0415 (help needs none of it)

            return one_line(orjson.dumps(to_json(value)).decode())
        case UUID() | int() | float():
            return str(value)
        case _:
            return one_line(redact(str(value)))


def one_line(text: str) -> str:
    """Show control characters instead of obeying them: events carry what others wrote."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _hidden(name: object, value: object) -> object:
    """Others' names may say that all within is secret; a number tells nothing."""
    if is_secret(str(name)) and not isinstance(value, None | bool | int | float):
        return HIDDEN
    return _field(name, value)


def _field(name: object, value: object) -> object:
    """Our own fields have names that we chose; a permalink is for everybody."""
    if name == PERMALINK and isinstance(value, str) and _PERMALINK.fullmatch(value):
        return value
    return to_json(value)
