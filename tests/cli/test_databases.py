"""A database that will not do is one sentence without the password, and status 1."""

from __future__ import annotations

import contextlib
import secrets
import socketserver
import struct
import threading
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.cli.calling import Outbox, run

PASSWORD = "s3cr3t-pa55"
COMMANDS = [["events"], ["show", "1"], ["emit", "t"], ["replay", "1"], ["cancel", "1"], ["release", "k"]]
ALL = [*COMMANDS, ["migrate"], ["relay"], ["accounts", "list"]]


@pytest.mark.parametrize("command", ALL)
def test_no_address_is_one_sentence(unset: Outbox, command: list[str]) -> None:
    """It names the variable and shows an example."""
    answer = unset(*command)
    assert answer.status == 1
    assert answer.sentence().startswith("OUTBOX_DSN is not set: expected a PostgreSQL connection string such as ")


@pytest.mark.parametrize("command", ALL)
def test_nobody_at_the_address_is_one_sentence(unset: Outbox, command: list[str]) -> None:
    """It says where, and why not."""
    unset.set(OUTBOX_DSN=f"postgresql://u:{PASSWORD}@127.0.0.1:1/db")
    answer = unset(*command)
    assert answer.status == 1
    assert "127.0.0.1:1" in answer.sentence()
    assert PASSWORD not in answer.err


@pytest.mark.parametrize("command", ALL)
@pytest.mark.parametrize("dsn", [f"postgresql://u:half@{PASSWORD}@h/db", f"nonsense {PASSWORD}"])
def test_an_address_that_cannot_be_read_is_not_quoted(unset: Outbox, command: list[str], dsn: str) -> None:
    """What looks like a host may be the rest of a password."""
    unset.set(OUTBOX_DSN=dsn)
    answer = unset(*command)
    assert answer.status == 1
    assert answer.sentence().startswith("expected an address such as postgresql://role:password@host:5432/database")
    assert PASSWORD not in answer.err


@pytest.mark.parametrize("command", ALL)
def test_a_role_that_does_not_exist_is_one_sentence(unset: Outbox, database: str, command: list[str]) -> None:
    """As the server says it."""
    unset.set(OUTBOX_DSN=make_conninfo(database, user="nobody_such", password=PASSWORD))
    answer = unset(*command)
    assert answer.status == 1
    assert "nobody_such" in answer.sentence()
    assert PASSWORD not in answer.err


@pytest.mark.parametrize("command", [*COMMANDS, ["relay"], ["accounts", "list"]])
def test_a_database_without_the_schema_is_one_sentence(unset: Outbox, empty_database: str, command: list[str]) -> None:
    """It says to migrate."""
    unset.set(OUTBOX_DSN=empty_database)
    answer = unset(*command)
    assert answer.status == 1
    assert answer.sentence() == "expected the schema outbox in the database, found none; run: outbox migrate"


@pytest.mark.parametrize("command", [*ALL, ["migrate", "--dry-run"]])
def test_a_schema_that_is_newer_is_one_sentence(outbox: Outbox, database: str, command: list[str]) -> None:
    """An old program does not touch what a newer one has changed so that it breaks older ones."""
    with psycopg.connect(database) as connection:
        connection.execute(
            "insert into outbox.migrations (version, name, checksum, breaks_older) "
            "select max(version) + 1, 'later', '', true from outbox.migrations"
        )
    answer = outbox(*command)
    assert answer.status == 1
    assert "upgrade this program to the release that migrated it" in answer.sentence()


@pytest.mark.parametrize("command", [*COMMANDS, ["relay"], ["accounts", "list"]])
def test_a_schema_that_is_older_is_one_sentence(outbox: Outbox, database: str, command: list[str]) -> None:
    """It says to migrate."""
    with psycopg.connect(database) as connection:
        connection.execute("delete from outbox.migrations where version > 1")
    answer = outbox(*command)
    assert answer.status == 1
    assert answer.sentence().endswith("found it at 0001; run: outbox migrate")


@pytest.fixture
def role(database: str) -> Iterator[str]:
    """The name of a role of the test's own, without any privilege."""
    name = f"outbox_test_{secrets.token_hex(4)}"
    identifier = sql.Identifier(name)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login password {}").format(identifier, sql.Literal(PASSWORD)))
        yield name
        connection.execute(sql.SQL("drop owned by {}").format(identifier))
        connection.execute(sql.SQL("drop role {}").format(identifier))


def grant(database: str, group: str, role: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(sql.SQL("grant {} to {}").format(sql.Identifier(group), sql.Identifier(role)))


@pytest.mark.parametrize("command", [*COMMANDS, ["accounts", "list"]])
def test_a_role_without_privileges_is_one_sentence(
    outbox: Outbox, database: str, role: str, command: list[str]
) -> None:
    """It names the role to grant."""
    outbox.set(OUTBOX_DSN=make_conninfo(database, user=role, password=PASSWORD))
    answer = outbox(*command)
    assert answer.status == 1
    assert "grant it outbox_operator" in answer.sentence()


def test_an_emitter_may_emit_and_nothing_else(outbox: Outbox, database: str, role: str) -> None:
    """With outbox_emitter alone."""
    grant(database, "outbox_emitter", role)
    outbox.set(OUTBOX_DSN=make_conninfo(database, user=role, password=PASSWORD))
    assert outbox("emit", "t").status == 0
    assert "permission denied" in outbox("events").sentence()


def test_an_operator_may_operate(outbox: Outbox, database: str, role: str) -> None:
    """With outbox_operator alone."""
    event_id = outbox("emit", "t", "--key", "k").out.strip()
    grant(database, "outbox_operator", role)
    outbox.set(OUTBOX_DSN=make_conninfo(database, user=role, password=PASSWORD))
    commands = [["events"], ["show", event_id], ["cancel", event_id], ["release", "k"], ["accounts", "list"]]
    assert [outbox(*command).status for command in commands] == [0] * len(commands)


def test_a_read_only_server_is_one_sentence(outbox: Outbox, database: str) -> None:
    """It asks for the primary."""
    with psycopg.connect(database, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("alter database {} set default_transaction_read_only = on").format(name))
    answer = outbox("events")
    assert answer.status == 1
    assert "point the DSN at the primary" in answer.sentence()


@pytest.mark.parametrize("command", [["events"], ["migrate"], ["relay"]])
def test_a_server_that_is_too_old_is_one_sentence(unset: Outbox, command: list[str]) -> None:
    """Both versions are named."""
    with old_server() as port:
        unset.set(OUTBOX_DSN=f"postgresql://u@127.0.0.1:{port}/db?sslmode=disable&gssencmode=disable")
        answer = unset(*command)
    assert answer.status == 1
    assert answer.sentence().startswith("expected PostgreSQL 14 or ")
    assert "found 13.11" in answer.err


def test_a_traceback_is_shown_where_it_is_asked_for() -> None:
    """Without the password, and the sentence still comes last."""
    answer = run("--traceback", "events", OUTBOX_DSN=f"postgresql://u:{PASSWORD}@127.0.0.1:1/db")
    assert answer.status == 1
    assert answer.err.startswith("Traceback")
    assert answer.err.splitlines()[-1].startswith("outbox: ")
    assert PASSWORD not in answer.err


class Old(socketserver.BaseRequestHandler):
    """Greets as PostgreSQL 13 does, and answers that it is not read-only."""

    def handle(self) -> None:
        """Talk until the other side hangs up."""
        with contextlib.suppress(OSError):
            self.request.recv(4096)
            self.request.sendall(_greeting())
            while self.request.recv(4096).startswith(b"Q"):
                self.request.sendall(_answer("off"))


@contextlib.contextmanager
def old_server() -> Iterator[int]:
    """Runs it beside the block; yields its port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Old) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _greeting() -> bytes:
    status = {"server_version": "13.11", "client_encoding": "UTF8", "standard_conforming_strings": "on"}
    told = b"".join(_message(b"S", f"{name}\0{value}\0".encode()) for name, value in status.items())
    return _message(b"R", struct.pack("!i", 0)) + told + _message(b"Z", b"I")


def _answer(value: str) -> bytes:
    column = b"value\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0)
    row = struct.pack("!hi", 1, len(value)) + value.encode()
    return (
        _message(b"T", struct.pack("!h", 1) + column)
        + _message(b"D", row)
        + _message(b"C", b"SHOW\0")
        + _message(b"Z", b"I")
    )


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body
