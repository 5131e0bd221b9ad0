"""A real pgbouncer in transaction mode, before the server of a connection string."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from schema.unprivileged import choose_account
from tests.processes import poll

POOL_SIZE: Final = 3
"""Fewer server connections than a relay has connections: its transactions run on whichever is free."""

TRIES: Final = 5
HOST: Final = "127.0.0.1"
MISSING: Final = "needs pgbouncer: apt-get install pgbouncer"

CONFIGURATION: Final = """
[databases]
* = {server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 100
"""


def is_installed() -> bool:
    """Whether there is a pgbouncer on this machine."""
    return _program() is not None


@contextmanager
def running(dsn: str) -> Iterator[str]:
    """Run pgbouncer before a server for the block; yields the connection string that leads through it."""
    program = _program()
    assert program is not None
    account = choose_account()
    given = conninfo_to_dict(dsn)
    names = ("host", "hostaddr", "port", "user", "password")
    server = make_conninfo(**{name: str(given[name]) for name in names if given.get(name)})
    with tempfile.TemporaryDirectory(prefix="outbox-pgbouncer-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        configuration = home / "pgbouncer.ini"
        for _ in range(TRIES):
            port = _free_port()
            configuration.write_text(CONFIGURATION.format(server=server, port=port, pool_size=POOL_SIZE))
            with subprocess.Popen(
                account.command(program, str(configuration)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                **account.credentials(),
            ) as process:
                through = make_conninfo(dsn, host=HOST, hostaddr="", port=port)
                try:
                    assert poll(partial(_has_decided, process, through))
                    if process.poll() is None:
                        yield through
                        return
                finally:
                    process.kill()
        raise AssertionError(f"pgbouncer ended {TRIES} times, each on another port")


def _has_decided(process: subprocess.Popen[bytes], dsn: str) -> bool:
    """Whether it answers, or has ended: somebody else may have taken its port meanwhile."""
    return process.poll() is not None or _answers(dsn)


def _program() -> str | None:
    return shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")


def _free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def _answers(dsn: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(dsn, connect_timeout=5):
        return True
    return False
