"""The `fields` parameter: which fields of an object an answer holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from publisher.sandbox.answers import nonexisting_field

T = TypeVar("T")
Readers = Mapping[str, Callable[[T], Any]]


@dataclass(frozen=True, slots=True)
class Nested:
    """A list inside an object: whole rows, of which `children{id,media_type}` names the fields."""

    rows: list[dict[str, Any]]
    default: tuple[str, ...]
    known: frozenset[str]

    def shown(self, requested: str) -> dict[str, Any]:
        """Return the list with the fields that are asked for.

        Raises:
            GraphError: 100, a name is not a field of its rows.
        """
        names = split(requested) or self.default
        for name in names:
            if name not in self.known:
                raise nonexisting_field(name)
        return {"data": [{name: row[name] for name in names if row.get(name) is not None} for row in self.rows]}


def wanted(requested: str | None, readers: Readers[T], default: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that `requested` asks for, or `default` when it asks for none.

    Raises:
        GraphError: 100, a name is not a field of the object.
    """
    if not requested:
        return default
    names = split(requested)
    for name in names:
        if _base(name) not in readers:
            raise nonexisting_field(name)
    return names or default


def with_id(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names with `id` among them: Graph answers it always."""
    return names if "id" in names else (*names, "id")


def pick(node: T, names: tuple[str, ...], readers: Readers[T]) -> dict[str, Any]:
    """Return the named fields of an object; one without a value is left out, as Graph does."""
    row: dict[str, Any] = {}
    for name in names:
        base = _base(name)
        value = readers[base](node)
        if isinstance(value, Nested):
            value = value.shown(name[len(base) :].partition("{")[2].removesuffix("}"))
        if value is not None:
            row[base] = value
    return row


def split(requested: str) -> tuple[str, ...]:
    """Split at the commas outside braces."""
    names, depth, start = [], 0, 0
    for at, letter in enumerate(requested):
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth <= 0:
            names.append(requested[start:at])
            start = at + 1
    names.append(requested[start:])
    return tuple(name for part in names if (name := part.strip()))


def _base(name: str) -> str:
    return name.partition("{")[0].partition(".")[0]
