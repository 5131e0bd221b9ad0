"""`outbox bench` on the server of this run."""

from __future__ import annotations

import os
from collections.abc import Callable

import psycopg
import pytest

from tests.cli.calling import Outbox

LIST_SCRATCH = "select datname from pg_database where datname like 'outbox\\_bench\\_%' order by 1"


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Outbox:
    """The command line in this process, in an environment without settings."""
    for name in os.environ:
        if name.startswith(("OUTBOX_", "PUBLISHER_", "SANDBOX_", "PG")) and not name.startswith("OUTBOX_TEST_"):
            monkeypatch.delenv(name)
    return Outbox(monkeypatch, capsys)


@pytest.fixture
def outbox(unset: Outbox, empty_database: str) -> Outbox:
    """The command line in this process, pointed at the test's own database, which has no schema."""
    unset.set(OUTBOX_DSN=empty_database)
    return unset


@pytest.fixture
def scratches(empty_database: str) -> Callable[[], list[str]]:
    """Lists the scratch databases on the server."""

    def listed() -> list[str]:
        with psycopg.connect(empty_database, autocommit=True) as connection:
            return [name for (name,) in connection.execute(LIST_SCRATCH).fetchall()]

    return listed
