"""A connection as the command line opens it, and histories to look at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox import database as connections
from tests.operations.histories import Histories


@pytest.fixture
async def connection(database: str) -> AsyncIterator[AsyncConnection[TupleRow]]:
    """A connection in autocommit."""
    async with await connections.connect(database, application_name="outbox-test") as opened:
        yield opened


@pytest.fixture
def histories(database: str) -> Iterator[Histories]:
    """Writes events' histories into the test's database."""
    with psycopg.connect(database, autocommit=True) as opened:
        yield Histories(opened)
