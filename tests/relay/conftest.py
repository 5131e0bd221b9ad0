"""A connection to look at what the relay does, and the script of its handler."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from outbox import database as connections
from tests.relay.running import Script, Store


@pytest.fixture(scope="package", autouse=True)
def plain_logs() -> Iterator[None]:
    """One line an event: tracebacks with every local variable take a second each."""
    before = structlog.get_config()
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])
    yield
    structlog.configure(**before)


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A connection in autocommit to the database of the relay."""
    async with await connections.connect(database, application_name="outbox-test") as connection:
        yield connection


@pytest.fixture
def script() -> Script:
    """A handler that publishes everything, until it is told otherwise."""
    return Script()
