"""What every test may ask for: databases on a real PostgreSQL server."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import pytest

from schema.embedded import EmbeddedPostgres
from tests.postgres import SETTINGS, Choice, Databases, bindir, choose, memory, open_databases, running

DICE: Final = ("CHAOS_SEED", "SOAK_SEED")
CHOICE: Final = pytest.StashKey[Choice]()


def pytest_configure() -> None:
    """Throw the dice of the run once, and choose where its files are: its workers inherit both."""
    for name in DICE:
        os.environ.setdefault(name, str(secrets.randbelow(1_000_000)))
    directory = memory()
    if directory is not None and "TMPDIR" not in os.environ:
        os.environ["TMPDIR"] = str(directory)
        tempfile.tempdir = None  # asked again: pytest has made files already
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # What a shell runs in the background ignores Ctrl-C, and so would the programs that the tests interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header(config: pytest.Config) -> list[str]:
    dice = ", ".join(f"{name}={os.environ[name]}" for name in DICE)
    return [f"PostgreSQL: {_choice(config).reason}", f"files: in {tempfile.gettempdir()}", f"dice: {dice}"]


def _choice(config: pytest.Config) -> Choice:
    if CHOICE not in config.stash:
        config.stash[CHOICE] = choose()
    return config.stash[CHOICE]


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Tests marked `anyio` run on plain asyncio."""
    return "asyncio", {"use_uvloop": False}


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """Databases on the server of this run."""
    with running(_choice(request.config)) as dsn, open_databases(dsn) as databases:
        yield databases


@pytest.fixture
def database(databases: Databases) -> Iterator[str]:
    """The address of a migrated database of the test's own, as superuser."""
    with databases.migrated() as dsn:
        yield dsn


@pytest.fixture
def empty_database(databases: Databases) -> Iterator[str]:
    """The address of a database of the test's own without the schema, as superuser."""
    with databases.empty() as dsn:
        yield dsn


@pytest.fixture
def own_server() -> Iterator[Callable[..., EmbeddedPostgres]]:
    """Starts servers of the test's own, to restart or kill; settings such as `fsync="on"` go on top of the tests'."""
    with contextlib.ExitStack() as servers:

        def start(settings: Mapping[str, str] | None = None) -> EmbeddedPostgres:
            return servers.enter_context(
                EmbeddedPostgres.start(settings={**SETTINGS, **(settings or {})}, bindir=bindir())
            )

        yield start
