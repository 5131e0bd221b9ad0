"""Statements are as short as psycopg likes them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages
from types import ModuleType

import pytest
from psycopg import _queries

import outbox
import publisher
import relay

PACKAGES = [outbox, relay, publisher]


def statements(package: ModuleType) -> Iterator[tuple[str, str]]:
    """The statements with psycopg's placeholders in the modules of a package, by name."""
    for found in walk_packages(package.__path__, f"{package.__name__}."):
        if not found.name.endswith("__main__"):
            for name, value in vars(import_module(found.name)).items():
                if name.isupper() and isinstance(value, str) and "%(" in value:
                    yield f"{found.name}.{name}", value


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_psycopg_remembers_every_statement(package: ModuleType) -> None:
    """One that is longer is taken apart again each time that it is executed; with $1 for %(name)s none is."""
    found = dict(statements(package))
    assert found
    limit = _queries.MAX_CACHED_STATEMENT_LENGTH
    assert [name for name, statement in found.items() if len(statement.encode()) > limit] == []
