"""How a benchmark begins and ends: where it may measure, what it says, and that it tidies up."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from outbox.errors import OutboxError
from relay.bench.progress import keep_silent
from relay.bench.relay_process import Order, running
from relay.bench.writers import Writers
from tests.cli.calling import Outbox, started
from tests.processes import poll

ROLE = "outbox_bench_guest"
BEYOND_THE_LIST = ("pipeline", 3000, "--accounts", 2)
"""The publisher reads all that is live before a call, a thousand stories at most."""


@pytest.fixture
def guest(empty_database: str) -> Iterator[str]:
    """The address of the test's database for a role that may not create databases."""
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(f"drop role if exists {ROLE}")
        connection.execute(f"create role {ROLE} login password 's3cr3t-pa55'")
        yield make_conninfo(empty_database, user=ROLE, password="s3cr3t-pa55")
        connection.execute(f"drop role {ROLE}")


def test_a_role_that_may_not_create_databases_is_told(unset: Outbox, guest: str) -> None:
    """In one sentence, with what to do and without the password."""
    unset.set(OUTBOX_DSN=guest)
    answer = unset("bench", "drain", 10)
    assert answer.status == 1
    [sentence] = [line for line in answer.err.splitlines() if line.startswith("outbox: ")]
    assert "expected a role that may create databases" in sentence
    assert "unset OUTBOX_DSN" in sentence
    assert "s3cr3t" not in answer.err


def test_without_a_server_it_takes_an_embedded_one_and_says_so(unset: Outbox) -> None:
    """On disk and with fsync: figures without it would flatter."""
    answer = unset("bench", "drain", 10, "--json")
    assert answer.status == 0
    assert "embedded PostgreSQL, with fsync" in answer.err
    assert answer.objects[0]["events"] == 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_drops_its_database(
    number: signal.Signals, empty_database: str, scratches: Callable[[], list[str]]
) -> None:
    """Ctrl-C, and a service manager's request to end."""
    with started("bench", "drain", "5000000", OUTBOX_DSN=empty_database) as process:
        assert poll(lambda: len(scratches()) == 1)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert scratches() == []


def test_what_a_killed_run_leaves_the_next_one_drops(
    outbox: Outbox, empty_database: str, scratches: Callable[[], list[str]]
) -> None:
    """But neither the database of a run that is alive, nor one of our name that has no mark of ours."""
    foreign = "outbox_bench_0000000f"
    with (
        started("bench", "drain", "5000000", OUTBOX_DSN=empty_database) as killed,
        psycopg.connect(empty_database, autocommit=True) as connection,
    ):
        assert poll(lambda: len(marked(connection)) == 1)
        [left] = marked(connection)
        connection.execute(f"create database {foreign} template template0")
        try:
            assert outbox("bench", "drain", 10).status == 0
            assert scratches() == sorted([left, foreign])  # it is alive
            killed.send_signal(signal.SIGKILL)
            killed.communicate(timeout=120)
            assert poll(lambda: not connected(connection, left))
            assert outbox("bench", "drain", 10).status == 0
            assert scratches() == [foreign]
        finally:
            connection.execute(f"drop database {foreign}")


def marked(connection: psycopg.Connection) -> list[str]:
    """The scratch databases that have our mark."""
    return [
        name
        for (name,) in connection.execute(
            "select datname from pg_database where datname like 'outbox\\_bench\\_%' "
            "and shobj_description(oid, 'pg_database') is not null"
        ).fetchall()
    ]


def connected(connection: psycopg.Connection, name: str) -> bool:
    """Whether anybody is connected to a database."""
    return bool(connection.execute("select from pg_stat_activity where datname = %s", [name]).fetchall())


def test_bounds_are_refused(unset: Outbox) -> None:
    """Nothing that would fill a disk by a slip of the finger."""
    for arguments in (("drain", 10**9), ("drain", 1), ("latency", 0), ("emit", "--seconds", 0), BEYOND_THE_LIST):
        assert unset("bench", *arguments).status == 2


def test_a_relay_that_fails_is_told_of(empty_database: str) -> None:
    """Here it finds no schema."""
    with (
        running(Order(empty_database, 1)) as relay,
        pytest.raises(OutboxError, match=r"expected the relay to run, found that it ended: .*outbox migrate"),
    ):
        relay.await_work(keep_silent)


@pytest.mark.parametrize("statement", ["select 1 / 0", "nonsense"])
def test_writers_that_fail_are_told_of(database: str, statement: str) -> None:
    """By the server's own words."""
    with pytest.raises(OutboxError, match=r"expected the writers to write, found: error: .*(zero|syntax)"):
        Writers(database, 2, None).write(statement, 0.1)
