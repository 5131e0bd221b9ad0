"""Connections to the test's own database, as the relay opens them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.outbox.store import Store, connect


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A connection in autocommit."""
    async with await connect(database) as connection:
        yield connection


@pytest.fixture
async def other(database: str) -> AsyncIterator[Store]:
    """Another one."""
    async with await connect(database) as connection:
        yield connection


@pytest.fixture
async def observer(database: str) -> AsyncIterator[Store]:
    """A third one, that looks at the other two."""
    async with await connect(database) as connection:
        yield connection
