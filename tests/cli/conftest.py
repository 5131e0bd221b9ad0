"""The command line, called as a person calls it."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator

import psycopg
import pytest
import structlog

from tests.cli.calling import Outbox
from tests.operations.histories import Histories

PREFIXES = ("OUTBOX_", "PUBLISHER_", "SANDBOX_", "PG")


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An environment without settings, standard input that is empty and no terminal, logs as they were before."""
    for name in os.environ:
        if name.startswith(PREFIXES) and not name.startswith("OUTBOX_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    yield
    structlog.reset_defaults()


@pytest.fixture
def unset(blank: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Outbox:
    """The command line in this process, without OUTBOX_DSN."""
    return Outbox(monkeypatch, capsys)


@pytest.fixture
def outbox(unset: Outbox, database: str) -> Outbox:
    """The command line in this process, on the test's own migrated database."""
    unset.set(OUTBOX_DSN=database)
    return unset


@pytest.fixture
def histories(database: str) -> Iterator[Histories]:
    """Writes events' histories into the test's database."""
    with psycopg.connect(database, autocommit=True) as opened:
        yield Histories(opened)
