"""JSON for the database: what handlers return is written or refused, whatever it holds; none of it stops the relay.

And arrays, faster than psycopg makes them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any
from uuid import UUID

import orjson

from outbox.event import LANE_COUNT, Lane

_INTEGER_MAX = 2**63 - 1


def encode(value: Any) -> str:
    """Encode a value that PostgreSQL can take as jsonb.

    PostgreSQL has no text with NUL in it, and UTF-8 no lone surrogates; they are replaced. What is not JSON (dates,
    decimals, objects) becomes its `str`.

    Raises:
        TypeError: It holds an object whose `str` raises.
        RecursionError: It holds itself.
    """
    try:
        encoded = orjson.dumps(value, default=_text)
    except TypeError:
        encoded = orjson.dumps(_plain(value))
    # Text that merely spells \u0000 comes here too, and is taken apart for nothing; it is rare.
    return orjson.dumps(_plain(value)).decode() if b"\\u0000" in encoded else encoded.decode()


def decode(encoded: str | bytes) -> Any:
    """Decode JSON as PostgreSQL wrote it.

    PostgreSQL's jsonb takes numbers and depths that Python's readers refuse. One such payload must not stop the log: it
    comes as an object that no handler takes for its own.
    """
    try:
        return orjson.loads(encoded)
    except orjson.JSONDecodeError as error:
        return {"unreadable": str(error)}


def encode_numbers(numbers: Iterable[int]) -> str:
    """Encode numbers as PostgreSQL's array, by way of a JSON one: psycopg, and `str`, cost many times as much."""
    return f"{{{orjson.dumps([*numbers]).decode()[1:-1]}}}"


def encode_ids(ids: Iterable[UUID | None]) -> str:
    """Encode ids as PostgreSQL's array: psycopg searches the text of each for what would need quotes."""
    return f"{{{','.join('null' if each is None else each.hex for each in ids)}}}"


def encode_lanes(lanes: Collection[Lane]) -> str:
    """Encode for each lane whether it is one of these, as PostgreSQL's array from 0 on.

    To look up a row's lane there costs a fraction of a search among up to 64 numbers, which costs more than all else
    that is done with a row that is passed over.
    """
    return f"[0:{LANE_COUNT - 1}]={{{','.join('t' if lane in lanes else 'f' for lane in range(LANE_COUNT))}}}"


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | float():
            return value
        case int():
            return value if abs(value) <= _INTEGER_MAX else str(value)
        case str():
            return value.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
        case Mapping():
            return {_plain(_text(name)): _plain(item) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case _:
            return _plain(_text(value))


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:
        raise TypeError(f"the str of its {type(value).__name__} raises {type(error).__name__}") from error
