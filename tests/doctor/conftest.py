"""A database to examine, and histories to find something in."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.operations.histories import Histories


@pytest.fixture
def histories(database: str) -> Iterator[Histories]:
    """Writes events' histories into the test's database."""
    with psycopg.connect(database, autocommit=True) as opened:
        yield Histories(opened)
