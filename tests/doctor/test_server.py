"""Each check of the server, made to find something on a real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import time

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from outbox.doctor.examination import examine
from outbox.doctor.finding import Level, duration, worst
from outbox.doctor.patient import Thresholds
from outbox.doctor.server import judge_horizon
from schema.embedded import EmbeddedPostgres
from schema.migrate import migrate
from tests.doctor.examining import STRICT, found
from tests.outages import pgbouncer
from tests.postgres import bindir

pytestmark = pytest.mark.anyio


def setting(dsn: str, name: str, value: str) -> None:
    """Set something for a database."""
    database = sql.Identifier(str(conninfo_to_dict(dsn)["dbname"]))
    with psycopg.connect(dsn, autocommit=True) as connection:
        query = sql.SQL("alter database {} set {} = {}").format(database, sql.Identifier(name), sql.Literal(value))
        connection.execute(query)


async def test_a_healthy_server_has_nothing_to_mend(database: str) -> None:
    """But for the relay that does not run here; every check says its name once."""
    findings = await examine(database)
    assert {each.check for each in findings if each.level is not Level.OK} <= {"lanes", "durability", "horizon"}
    assert len({each.check for each in findings}) == len(findings)


async def test_a_server_that_can_not_be_reached_is_the_only_finding() -> None:
    """With the sentence, without the password."""
    [finding] = await examine("postgresql://u:sesame@127.0.0.1:1/db")
    assert (finding.check, finding.level) == ("connection", Level.FAIL)
    assert "sesame" not in finding.found


async def test_a_replica_is_told(tmp_path: Path) -> None:
    """What can be looked at there is looked at; nothing fails to be looked at."""
    with EmbeddedPostgres.start(directory=tmp_path / "pg", settings={"fsync": "off"}, bindir=bindir()) as server:
        migrate(server.dsn())
        server.stop()
    (tmp_path / "pg" / "cluster" / "data" / "standby.signal").touch()
    with EmbeddedPostgres.start(directory=tmp_path / "pg", settings={"fsync": "off"}, bindir=bindir()) as server:
        findings = await examine(server.dsn())
    levels = {each.check: each for each in findings}
    assert levels["primary"].level is Level.FAIL
    assert "is a replica" in levels["primary"].found
    assert "listen" not in levels
    assert levels["schema"].level is Level.OK
    assert [each for each in findings if "could not look" in each.found] == []


async def test_a_read_only_database_is_told(database: str) -> None:
    """As a replica is."""
    setting(database, "default_transaction_read_only", "on")
    assert (await found(database, "primary")).level is Level.FAIL


async def test_what_a_crash_would_forget_is_told(database: str, own_server: Callable[..., EmbeddedPostgres]) -> None:
    """An asynchronous commit is a warning, no fsync a failure."""
    assert (await found(own_server({"fsync": "off"}).dsn(), "durability")).level is Level.FAIL
    dsn = own_server({"fsync": "on", "synchronous_commit": "off"}).dsn()
    assert (await found(dsn, "durability")).level is Level.WARN


async def test_another_isolation_level_is_told(database: str) -> None:
    """It is what the application's transactions get by default."""
    setting(database, "default_transaction_isolation", "repeatable read")
    finding = await found(database, "isolation")
    assert (finding.level, finding.found) == (Level.WARN, "transactions are repeatable read by default")


async def test_a_clock_that_is_off_is_told(database: str) -> None:
    """In which direction."""
    finding = await found(database, "clock", now=lambda: time() + 3600)
    assert finding.level is Level.WARN
    assert finding.found.endswith("60 min ahead")


async def test_a_transaction_that_stays_open_is_told(database: str) -> None:
    """Whose it is; a prepared one too."""
    with psycopg.connect(database, application_name="forgotten") as connection:
        connection.execute("set transaction isolation level repeatable read")
        connection.execute("select 1 from outbox.events")
        finding = await found(database, "horizon", thresholds=STRICT)
        assert finding.level is Level.FAIL
    with psycopg.connect(database, application_name="forgotten", autocommit=True) as connection:
        connection.execute("begin isolation level repeatable read")
        connection.execute("select pg_current_xact_id()")
        connection.execute("prepare transaction 'lost'")
        try:
            finding = await found(database, "horizon", thresholds=STRICT)
            assert finding.level is Level.FAIL
            assert "prepared transaction" in finding.found
        finally:
            connection.execute("rollback prepared 'lost'")


def test_a_slot_that_nobody_reads_is_told() -> None:
    """A replication slot holds the horizon as a transaction does."""
    assert judge_horizon([], (0, "me"), [("old", 20_000_000)], (300, 3600)).level is Level.WARN
    assert judge_horizon([], (0, "me"), [("young", 20)], (300, 3600)).level is Level.OK


async def test_a_notification_queue_that_fills_is_told(own_server: Callable[..., EmbeddedPostgres]) -> None:
    """A listener inside a transaction that does not end keeps all that comes after it."""
    server = own_server()
    with psycopg.connect(server.dsn(), autocommit=True) as administrator:
        if administrator.info.server_version < 170000:
            pytest.skip("before PostgreSQL 17 the queue holds 8 GB: run this on 17 or newer")
        administrator.execute("alter system set max_notify_queue_pages = 64")
        server.restart()
    with (
        psycopg.connect(server.dsn(), autocommit=True) as idle,
        psycopg.connect(server.dsn(), autocommit=True) as ringing,
    ):
        idle.execute("listen pinned")
        idle.execute("begin")
        idle.execute("select 1")
        for number in range(50):
            ringing.execute("select pg_notify('pinned', %s || repeat('x', 7000))", [str(number)])
        finding = await found(server.dsn(), "notification queue")
    assert finding.level is Level.FAIL
    assert "idle in transaction" in str(finding.advice)


@pytest.fixture
def pooled(database: str) -> Iterator[str]:
    """The address of the test's database behind a pooler, in transaction mode."""
    if not pgbouncer.is_installed():
        pytest.skip(pgbouncer.MISSING)
    with pgbouncer.running(database) as dsn:
        yield dsn


async def test_a_pooler_in_the_way_is_told(pooled: str) -> None:
    """By the process id that it makes up, and by the notification that never comes back."""
    findings = {each.check: each for each in await examine(pooled, thresholds=Thresholds(listen_seconds=1))}
    assert findings["pooler"].level is Level.WARN
    assert findings["listen"].level is Level.WARN


async def test_a_schema_that_is_not_there_or_old_is_told(empty_database: str, database: str) -> None:
    """With what to run; what needs it is left out."""
    findings = {each.check: each for each in await examine(empty_database)}
    assert (findings["schema"].level, findings["schema"].advice) == (Level.FAIL, "run: outbox migrate")
    assert "lanes" not in findings
    with psycopg.connect(database) as connection:
        connection.execute("delete from outbox.migrations where version = (select max(version) from outbox.migrations)")
    assert (await found(database, "schema")).level is Level.FAIL


def test_the_worst_finding_counts() -> None:
    """Nothing at all is well."""
    assert worst([]) is Level.OK


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123, "12 ms"), (1.5, "1.5 s"), (150, "2 min"), (9000, "2 h"), (200_000, "2 d")]
)
def test_seconds_are_told_as_people_say_them(seconds: float, text: str) -> None:
    """In the unit that fits."""
    assert duration(seconds) == text
