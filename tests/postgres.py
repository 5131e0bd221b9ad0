"""The PostgreSQL server that the tests run on, and databases cloned from a migrated template."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from schema.binaries import find_binaries
from schema.embedded import EmbeddedPostgres
from schema.migrate import migrate

DSN_VARIABLE: Final = "OUTBOX_TEST_DSN"
BINDIR_VARIABLE: Final = "OUTBOX_TEST_BINDIR"
"""The folder with initdb and postgres of another release; `make test-matrix` sets it."""

IMAGE_VARIABLE: Final = "OUTBOX_TEST_IMAGE"
"""The image to run where Docker is a must; `make test-docker` sets it."""

IMAGE: Final = "postgres:18"
CONTAINERS_CLUSTER: Final = "/var/lib/postgresql"
"""Where images of PostgreSQL have their clusters, the official ones too."""

PULL_SECONDS: Final = 120
MEMORY: Final = Path("/dev/shm")
MEMORY_BYTES: Final = 4 << 30
SETTINGS: Final[Mapping[str, str]] = {
    "max_connections": "200",
    "max_prepared_transactions": "20",
    "fsync": "off",
}

CREATE: Final = sql.SQL("create database {}")
CLONE: Final = sql.SQL("create database {} template {}")
DROP: Final = sql.SQL("drop database if exists {} with (force)")
# A run holds this lock for as long as it lives; the databases of a run whose lock is free are left over.
HOLD: Final = "select pg_advisory_lock(hashtext('outbox test'), hashtext(%s))"
IS_FREE: Final = "select pg_try_advisory_xact_lock(hashtext('outbox test'), hashtext(%s))"
LIST: Final = "select datname from pg_database where datname like 'outbox\\_test\\_%'"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which server the tests take, and why, for the run's header."""

    kind: Literal["given", "docker", "embedded"]
    reason: str


def choose() -> Choice:
    """What the environment names, else Docker where it works, else programs on this machine."""
    if DSN_VARIABLE in os.environ:
        return Choice("given", f"the server that {DSN_VARIABLE} names")
    if IMAGE_VARIABLE in os.environ:
        return Choice("docker", f"a container of {image()}")
    if bindir() is None and docker_has_bridge() and docker_has(image()):
        return Choice("docker", f"a container of {image()}")
    binaries = find_binaries(bindir())
    return Choice("embedded", f"embedded, {binaries.version} from {binaries.origin}")


def bindir() -> Path | None:
    """The programs that embedded servers of the tests run; None takes the wheel's, else the machine's."""
    named = os.environ.get(BINDIR_VARIABLE)
    return None if named is None else Path(named)


def image() -> str:
    """The image that containers of the tests run."""
    return os.environ.get(IMAGE_VARIABLE, IMAGE)


def memory() -> Path | None:
    """A folder in memory with room for the clusters of a run; None where this machine has none.

    To clone the template and drop it takes a fifth of the kernel's time there (20 ms against 100 and more on ext4), and
    the tests do it a thousand times. Docker gives its containers 64 MB, and runs no programs from there.
    """
    try:
        found = os.statvfs(MEMORY)
    except OSError:
        return None
    fits = found.f_bavail * found.f_frsize >= MEMORY_BYTES and not found.f_flag & os.ST_NOEXEC
    return MEMORY if fits and os.access(MEMORY, os.W_OK | os.X_OK) else None


@contextlib.contextmanager
def running(choice: Choice) -> Iterator[str]:
    """Run the chosen server; yields the address of its database postgres, as superuser."""
    match choice.kind:
        case "given":
            yield os.environ[DSN_VARIABLE]
        case "docker":
            with _container() as dsn:
                yield dsn
        case "embedded":
            with EmbeddedPostgres.start(settings=SETTINGS, bindir=bindir()) as server:
                yield server.dsn()


class Databases:
    """Makes and drops the databases of one test run, for several threads too; `open_databases` makes it."""

    def __init__(self, connection: psycopg.Connection, dsn: str, run: str) -> None:
        self._connection = connection
        self._dsn = dsn
        self._run = run
        self._numbers = itertools.count(1)
        self._template: str | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def empty(self) -> Iterator[str]:
        """A database without the schema, dropped afterwards with whoever is connected; yields its address."""
        with self._dropped(self._next_name()) as name:
            self._connection.execute(CREATE.format(sql.Identifier(name)))
            yield self._address(name)

    @contextlib.contextmanager
    def migrated(self) -> Iterator[str]:
        """A clone of the template, which is migrated at the first call; dropped afterwards. Yields its address."""
        with self._lock:
            if self._template is None:
                made = self._next_name()
                self._connection.execute(CREATE.format(sql.Identifier(made)))
                migrate(self._address(made))
                self._template = made
            template = self._template
        with self._dropped(self._next_name()) as name:
            self._connection.execute(CLONE.format(sql.Identifier(name), sql.Identifier(template)))
            yield self._address(name)

    def sweep(self) -> None:
        """Drop this run's databases, and those of runs that were killed."""
        for (name,) in self._connection.execute(LIST).fetchall():
            run = name.split("_")[2]
            if run == self._run or self._is_over(run):
                self._connection.execute(DROP.format(sql.Identifier(name)))

    def _is_over(self, run: str) -> bool:
        row = self._connection.execute(IS_FREE, [run]).fetchone()
        return row is not None and row[0]

    def _next_name(self) -> str:
        return f"outbox_test_{self._run}_{next(self._numbers)}"

    def _address(self, name: str) -> str:
        if "://" in self._dsn:
            return urlsplit(self._dsn)._replace(path=f"/{name}").geturl()
        return make_conninfo(self._dsn, dbname=name)

    @contextlib.contextmanager
    def _dropped(self, name: str) -> Iterator[str]:
        try:
            yield name
        finally:
            self._connection.execute(DROP.format(sql.Identifier(name)))


@contextlib.contextmanager
def open_databases(dsn: str) -> Iterator[Databases]:
    """Databases on a running server, all dropped at the end."""
    run = secrets.token_hex(4)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(HOLD, [run])
        databases = Databases(connection, dsn, run)
        databases.sweep()
        try:
            yield databases
        finally:
            databases.sweep()


def docker_has(image: str, *, pull: bool = True) -> bool:
    """Whether Docker answers, and has the image or can pull it."""
    if shutil.which("docker") is None:
        return False
    commands: list[tuple[list[str], int]] = [(["info"], 10), (["image", "inspect", image], 10)]
    if pull:
        commands.append((["pull", image], PULL_SECONDS))
    with contextlib.suppress(subprocess.TimeoutExpired):
        for command, seconds in commands:
            answer = subprocess.run(["docker", *command], capture_output=True, timeout=seconds, check=False)
            if (answer.returncode == 0) == (command[0] != "info"):
                return answer.returncode == 0
    return False


def docker_has_bridge() -> bool:
    """Whether a container gets an address and its ports are published: not by a daemon of `--bridge=none`."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "network", "inspect", "bridge"], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def _container() -> Iterator[str]:
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415 (slow, and only where Docker runs)

    settings = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    container = PostgresContainer(image(), driver=None).with_command(f"postgres {settings}")
    # In memory, as memory() has it: tests that clone six databases at once were kept waiting too long by a disk.
    with container.with_tmpfs_mount(CONTAINERS_CLUSTER):
        yield str(container.get_connection_url())
