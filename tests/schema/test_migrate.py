"""Migrations are applied once, whole or not at all, and what can't be applied is refused with a sentence."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from schema.embedded import EmbeddedPostgres
from schema.errors import (
    MigrationFailed,
    SchemaBusy,
    SchemaConflict,
    SchemaError,
    SchemaMissing,
    SchemaOutdated,
    SchemaTooNew,
    ServerUnsuitable,
)
from schema.migrate import migrate, plan, render, require_current
from schema.plan import Books, decide
from schema.scripts import Scripts, load
from schema.server import connect, describe, require_version
from tests.postgres import bindir
from tests.processes import ROOT, poll, program, read_line
from tests.schema.catalog import catalog

FIRST: Final = (
    "create table outbox.notes (id int primary key, text text);\ninsert into outbox.notes values (1, '100%');\n"
)
SECOND: Final = "alter table outbox.notes add column author text"
FUNCTION: Final = "create or replace function outbox.note() returns int language sql as 'select 1';\n"

SQL_FILES: Final = [
    *sorted((ROOT / "schema" / "migrations").glob("*.sql")),
    *sorted((ROOT / "schema" / "functions").glob("*.sql")),
]
MIGRATE: Final = """
import sys
from schema.migrate import migrate
print("ready", flush=True)
sys.stdin.readline()
print(len(migrate(sys.argv[1]).scripts), flush=True)
"""


def write(root: Path, **texts: str) -> Scripts:
    """Scripts from files written under `root`: names that begin with m are migrations, the others functions."""
    for name, text in texts.items():
        folder = root / ("migrations" if name.startswith("m") else "functions")
        folder.mkdir(exist_ok=True, parents=True)
        (folder / f"{name.removeprefix('m')}.sql").write_text(text, encoding="utf-8")
    return load(root)


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    """One small migration and one function."""
    return write(tmp_path, m0001_notes=FIRST, note=FUNCTION)


def fetch(dsn: str, query: bytes) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


def test_migrating_twice_does_nothing_the_second_time(empty_database: str) -> None:
    """The first run reports every file of the package, the second one none."""
    first = migrate(empty_database)
    assert (first.before, first.after) == (0, load().version)
    assert [script.name for script in first.scripts] == [path.stem for path in SQL_FILES]
    second = migrate(empty_database)
    assert second.is_empty
    assert (second.before, second.after) == (first.after, first.after)


def test_a_plan_changes_nothing(empty_database: str) -> None:
    """A dry run reports what migrate would do and leaves an empty database empty."""
    todo = plan(empty_database)
    assert fetch(empty_database, b"select from pg_namespace where nspname in ('outbox', 'social')") == []
    assert migrate(empty_database) == todo
    assert plan(empty_database).is_empty


def test_a_plan_needs_no_right_to_write(database: str) -> None:
    """A dry run works on a read-only session."""
    assert plan(make_conninfo(database, options="-c default_transaction_read_only=on")).is_empty


def test_a_changed_function_is_applied_again_alone(empty_database: str, tmp_path: Path, scripts: Scripts) -> None:
    """Only the function file that changed is applied, and no migration."""
    migrate(empty_database, write(tmp_path, other=FUNCTION.replace("note()", "other()")))
    changed = write(tmp_path, note=FUNCTION.replace("select 1", "select 2"))
    assert [script.name for script in plan(empty_database, changed).scripts] == ["note"]
    assert [script.name for script in migrate(empty_database, changed).scripts] == ["note"]
    assert fetch(empty_database, b"select outbox.note()") == [(2,)]


def test_a_migration_applies_all_functions_again(empty_database: str, tmp_path: Path, scripts: Scripts) -> None:
    """A function may rest on what a migration changed, so all of them follow it."""
    migrate(empty_database, scripts)
    done = migrate(empty_database, write(tmp_path, m0002_author=SECOND))
    assert [script.name for script in done.scripts] == ["0002_author", "note"]
    assert (done.before, done.after) == (1, 2)


def test_a_removed_function_file_is_forgotten(empty_database: str, scripts: Scripts) -> None:
    """A file that is no more is struck from the books; dropping the function is a migration's work."""
    migrate(empty_database, scripts)
    assert migrate(empty_database, replace(scripts, functions=())).forgotten == ("note",)
    assert plan(empty_database, replace(scripts, functions=())).is_empty


def test_an_open_connection_can_be_migrated(empty_database: str, scripts: Scripts) -> None:
    """A caller's idle connection is used and left open; one inside a transaction is refused."""
    with psycopg.connect(empty_database) as connection:
        assert len(migrate(connection, scripts).scripts) == 2
        require_current(connection, scripts)
        connection.execute("select 1")
        with pytest.raises(SchemaError, match="expected a connection outside a transaction"):
            plan(connection, scripts)


def test_a_strict_session_is_no_obstacle(empty_database: str) -> None:
    """Defaults of a role, isolation and a statement's time-out among them, don't change what is done."""
    options = "-c default_transaction_isolation=serializable -c statement_timeout=1s -c search_path=nowhere"
    assert not migrate(make_conninfo(empty_database, options=options)).is_empty
    require_current(empty_database)


def test_two_processes_that_race_migrate_once(empty_database: str) -> None:
    """Of three processes that start at once exactly one applies the files."""
    with (
        program(MIGRATE, empty_database) as one,
        program(MIGRATE, empty_database) as two,
        program(MIGRATE, empty_database) as three,
    ):
        racers = (one, two, three)
        for racer in racers:
            assert read_line(racer) == "ready"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        counts = sorted(int(read_line(racer)) for racer in racers)
        assert [racer.wait() for racer in racers] == [0, 0, 0]
    assert counts == [0, 0, len(SQL_FILES)]


def test_a_fresh_schema_is_a_migrated_schema(database: str, empty_database: str) -> None:
    """Applying the migrations one release at a time, and the functions twice, ends where a fresh database begins."""
    scripts = load()
    for count in range(1, len(scripts.migrations)):
        migrate(empty_database, Scripts(scripts.migrations[:count], ()))
    migrate(empty_database, scripts)
    with psycopg.connect(empty_database) as connection:
        connection.execute("update outbox.migrated_functions set checksum = 'of an earlier release'")
    assert len(migrate(empty_database, scripts).functions) == len(scripts.functions)
    assert catalog(empty_database) == catalog(database)


def test_printed_sql_has_the_same_effect(database: str, empty_database: str) -> None:
    """The text for psql, applied to an empty database, leaves what migrate leaves, its books included."""
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(render().encode())
    assert catalog(empty_database) == catalog(database)
    assert plan(empty_database).is_empty
    require_current(empty_database)


def test_printed_sql_brings_an_older_database_up(empty_database: str, tmp_path: Path, scripts: Scripts) -> None:
    """The text for a plan holds only what that database lacks, and the files that went."""
    migrate(empty_database, scripts)
    newer = write(tmp_path, m0002_author=SECOND)
    text = render(plan(empty_database, replace(newer, functions=())))
    assert "create table outbox.notes" not in text
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(text.encode())
    assert plan(empty_database, replace(newer, functions=())).is_empty


def test_printed_sql_refuses_another_database(empty_database: str, tmp_path: Path, scripts: Scripts) -> None:
    """Text that was printed for a database at one migration does nothing to one at another."""
    migrate(empty_database, scripts)
    text = render(plan(empty_database, write(tmp_path, m0002_author=SECOND)))
    migrate(empty_database, write(tmp_path, m0002_author=SECOND))
    with (
        psycopg.connect(empty_database, autocommit=True) as connection,
        pytest.raises(psycopg.errors.RaiseException, match="expected a database at migration 1, found 2"),
    ):
        connection.execute(text.encode())


def test_every_table_and_column_says_what_it_is_for(database: str) -> None:
    """Every table, view and column of ours has a comment."""
    silent = [
        line.partition(" comment ")[0]
        for line in catalog(database)
        if line.startswith(("relation ", "column ")) and line.endswith(" comment ") and " S " not in line
    ]
    assert silent == []


@pytest.mark.parametrize(("version", "found"), [(130014, "13.14"), (90624, "9.6"), (120000, "12.0")])
def test_an_old_server_is_refused(version: int, found: str) -> None:
    """A server before PostgreSQL 14 is refused with both versions; 14.0 is taken."""
    with pytest.raises(ServerUnsuitable, match=rf"expected PostgreSQL 14 or later, found {found}; upgrade the server"):
        require_version(version)
    require_version(140000)


def test_an_unreachable_server_is_named_without_the_password() -> None:
    """The sentence names host, port, database and role, and not the password."""
    with pytest.raises(ServerUnsuitable) as caught:
        plan("postgresql://somebody:s3cret@127.0.0.1:1/somewhere")
    assert "expected a PostgreSQL server at 127.0.0.1:1, database somewhere, role somebody, found: " in str(
        caught.value
    )
    assert_sentence(caught.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://somebody:s3cret@s3cret@127.0.0.1:1/somewhere",
        "postgresql://somebody:s3cret/s3cret@127.0.0.1:1/somewhere",
        "postgresql://somebody:s3cret%@127.0.0.1:1/somewhere",
        "s3cret",
        "host=127.0.0.1 port=s3cret",
    ],
)
def test_a_malformed_address_is_not_quoted(dsn: str) -> None:
    """Where a password's special characters spoil the address, no part of it is quoted."""
    with pytest.raises(ServerUnsuitable, match="expected an address such as") as caught:
        describe(dsn)
    assert_sentence(caught.value)


def test_an_edited_migration_is_refused(empty_database: str, tmp_path: Path, scripts: Scripts) -> None:
    """A migration that was applied and then edited is refused by name; nothing is applied."""
    migrate(empty_database, scripts)
    edited = write(tmp_path, m0001_notes=FIRST + "-- edited", m0002_author=SECOND)
    for refuse in (migrate, plan, require_current):
        with pytest.raises(SchemaConflict, match=r"expected migration 0001_notes .*; restore the file") as caught:
            refuse(empty_database, edited)
        assert_sentence(caught.value)
    assert plan(empty_database, scripts).is_empty


def test_a_newer_database_is_refused(empty_database: str, tmp_path: Path, scripts: Scripts) -> None:
    """An older release does not migrate what a newer one has migrated, nor work where that has broken it."""
    migrate(empty_database, write(tmp_path, m0002_author=f"-- breaks older releases\n{SECOND}"))
    for refuse in (migrate, plan, require_current):
        with pytest.raises(SchemaTooNew, match="at migration 0001 at most, found it at 0002; upgrade") as caught:
            refuse(empty_database, scripts)
        assert_sentence(caught.value)


def test_a_newer_database_serves_an_older_release(empty_database: str, tmp_path: Path, scripts: Scripts) -> None:
    """While a release is rolled out both run, unless a migration says that it breaks the older one."""
    migrate(empty_database, write(tmp_path, m0002_author=SECOND))
    require_current(empty_database, scripts)
    with pytest.raises(SchemaTooNew):
        migrate(empty_database, scripts)
    migrate(empty_database, write(tmp_path, m0003_editor="-- breaks older releases\nselect 1"))
    with pytest.raises(SchemaTooNew, match="found it at 0003"):
        require_current(empty_database, scripts)


def test_books_of_an_older_release_are_read(empty_database: str, tmp_path: Path, scripts: Scripts) -> None:
    """They do not tell what breaks whom; the next migration adds that."""
    migrate(empty_database, scripts)
    with psycopg.connect(empty_database) as connection:
        connection.execute("alter table outbox.migrations drop column breaks_older")
    require_current(empty_database, scripts)
    migrate(empty_database, write(tmp_path, m0002_author=SECOND))
    found = fetch(empty_database, b"select version, breaks_older from outbox.migrations order by version")
    assert found == [(1, False), (2, False)]


def test_a_database_must_be_current(empty_database: str, tmp_path: Path, scripts: Scripts) -> None:
    """A relay's start refuses a database without the schema, an older one, and one that lacks a function."""
    with pytest.raises(SchemaMissing, match="run: outbox migrate"):
        require_current(empty_database, scripts)
    migrate(empty_database, scripts)
    require_current(empty_database, scripts)
    with pytest.raises(SchemaOutdated, match="expected the function other in the database"):
        require_current(empty_database, write(tmp_path, other=FUNCTION))
    with pytest.raises(SchemaOutdated, match="expected the database at migration 0002, found it at 0001"):
        require_current(empty_database, write(tmp_path, m0002_author=SECOND))


def test_a_function_of_another_release_is_served(empty_database: str, tmp_path: Path, scripts: Scripts) -> None:
    """While a release is rolled out both versions of the code run on one database."""
    migrate(empty_database, scripts)
    require_current(empty_database, write(tmp_path, note=FUNCTION.replace("select 1", "select 2")))


def test_a_failed_migration_changes_nothing(empty_database: str, tmp_path: Path, scripts: Scripts) -> None:
    """When a later file is refused by the server the earlier ones are undone, and the file is named."""
    broken = write(tmp_path, m0002_author="alter table outbox.missing add column author text;")
    with pytest.raises(
        MigrationFailed, match=r'accept 0002_author, found: relation "outbox.missing" does not exist'
    ) as caught:
        migrate(empty_database, broken)
    assert_sentence(caught.value)
    assert plan(empty_database, scripts).before == 0
    assert fetch(empty_database, b"select from pg_namespace where nspname = 'outbox'") == []


def test_a_missing_privilege_is_named(empty_database: str, database: str) -> None:
    """A role that may not create a schema, or not read the books, is told so in one sentence."""
    name = f"outbox_test_{secrets.token_hex(4)}"
    role = sql.Identifier(name)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {}").format(role))
        try:
            options = f"-c role={name}"
            for refuse, dsn in ((migrate, empty_database), (plan, database), (require_current, database)):
                with pytest.raises(ServerUnsuitable, match=r"found: permission denied for .*; use the role") as caught:
                    refuse(make_conninfo(dsn, options=options))
                assert_sentence(caught.value)
        finally:
            connection.execute(sql.SQL("drop role {}").format(role))


def test_a_standby_is_refused(own_server: Callable[..., EmbeddedPostgres], tmp_path: Path, scripts: Scripts) -> None:
    """A standby can be planned and served, but not migrated."""
    with EmbeddedPostgres.start(directory=tmp_path / "pg", settings={"fsync": "off"}, bindir=bindir()) as server:
        migrate(server.dsn(), scripts)
        server.stop()
    (tmp_path / "pg" / "cluster" / "data" / "standby.signal").touch()
    with EmbeddedPostgres.start(directory=tmp_path / "pg", settings={"fsync": "off"}, bindir=bindir()) as server:
        require_current(server.dsn(), scripts)
        newer = write(tmp_path, m0002_author=SECOND)
        assert not plan(server.dsn(), newer).is_empty
        with pytest.raises(ServerUnsuitable, match="name the primary's address") as caught:
            migrate(server.dsn(), newer)
        assert_sentence(caught.value)


def test_a_lock_that_others_hold_is_not_waited_for_long(empty_database: str, tmp_path: Path, scripts: Scripts) -> None:
    """A migration that can't get its lock gives way to writers, and gives up with a sentence."""
    migrate(empty_database, scripts)
    newer = write(tmp_path, m0002_author=SECOND)
    with psycopg.connect(empty_database) as holder:
        holder.execute("select from outbox.notes")
        with pytest.raises(SchemaBusy, match="expected to get the locks for 0002_author") as caught:
            migrate(empty_database, newer, lock_seconds=0.01)
    assert_sentence(caught.value)


def test_a_lock_is_tried_again(empty_database: str, tmp_path: Path, scripts: Scripts) -> None:
    """A migration that found its lock held succeeds once the holder has ended."""
    migrate(empty_database, scripts)
    newer = write(tmp_path, m0002_author=SECOND)
    with psycopg.connect(empty_database) as holder, psycopg.connect(empty_database, autocommit=True) as watcher:
        holder.execute("select from outbox.notes")
        thread = threading.Thread(target=migrate, args=[empty_database, newer], kwargs={"lock_seconds": 0.2})
        thread.start()

        def waits() -> bool:
            query = "select from pg_locks where not granted and relation = 'outbox.notes'::regclass"
            return bool(watcher.execute(query).fetchall())

        assert poll(waits)
        assert poll(lambda: not waits())
        assert poll(waits)
        holder.rollback()
        thread.join()
    assert plan(empty_database, newer).is_empty


@pytest.mark.parametrize("name", ["m0002_gap", "m1_short", "m0001_Upper", "m0001"])
def test_a_misnamed_migration_is_refused(tmp_path: Path, name: str) -> None:
    """Migrations are numbered 0001, 0002 and so on, without gaps."""
    with pytest.raises(SchemaError, match=r"expected a migration with a name such as 0001_add_holds.sql, found "):
        write(tmp_path, **{name: FIRST})


def test_line_endings_don_t_change_a_checksum(tmp_path: Path, scripts: Scripts) -> None:
    """A checkout with CR LF is the same migration."""
    file = tmp_path / "migrations" / "0001_notes.sql"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert load(tmp_path).migrations[0].checksum == scripts.migrations[0].checksum


def test_another_programs_schema_is_not_taken_over(empty_database: str, scripts: Scripts) -> None:
    """A schema outbox with a table migrations of another shape is refused, and left as it is."""
    with psycopg.connect(empty_database) as connection:
        connection.execute("create schema outbox")
        connection.execute("create table outbox.migrations (id int)")
        connection.execute("create table outbox.migrated_functions (id int)")
    with pytest.raises(MigrationFailed, match=r"found: column .* does not exist; nothing was changed"):
        migrate(empty_database, scripts)


def test_an_empty_plan_is_decided_without_a_database(scripts: Scripts) -> None:
    """The decision is a function of two values: what was seen and what there is."""
    assert decide(Books(), scripts).scripts == (*scripts.migrations, *scripts.functions)
    assert decide(Books(), Scripts((), ())).is_empty


def test_a_connection_speaks_utf8_and_commits_by_itself(database: str) -> None:
    """What `connect` opens doesn't depend on the caller's environment."""
    with connect(make_conninfo(database)) as connection:
        assert connection.autocommit
        assert connection.info.encoding == "utf-8"


def assert_sentence(error: SchemaError) -> None:
    """One line that says what to do, without the password of these tests."""
    message = str(error)
    assert "\n" not in message
    assert message.startswith("expected ")
    assert "; " in message
    assert "s3cret" not in message
