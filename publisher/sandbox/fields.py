"""The `fields` parameter: which fields of an object an answer holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from publisher.sandbox.answers import nonexisting_field

T = TypeVar("T")
Readers = Mapping[str, Callable[[T], Any]]


def wanted(requested: str | None, readers: Readers[T], default: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that `requested` asks for, or `default` when it asks for none.

    Raises:
        GraphError: 100, a name is not a field of the object.
    """
    if not requested:
        return default
    names = tuple(name for part in requested.split(",") if (name := part.strip()))
    for name in names:
        if name not in readers:
            raise nonexisting_field(name)
    return names or default


def pick(node: T, names: tuple[str, ...], readers: Readers[T]) -> dict[str, Any]:
    """Return the named fields of an object; one without a value is left out, as Graph does."""
    return {name: value for name in names if (value := readers[name](node)) is not None}
