"""A release is rolled out with both versions at work: the schema first, then relay after relay."""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import psycopg
import pytest
from anyio import to_thread

from publisher.tokens import generate_key
from relay.app import serve
from schema.errors import SchemaOutdated, SchemaTooNew
from schema.migrate import migrate, require_current
from schema.scripts import Scripts, load
from tests.processes import ROOT, poll, program, read_line
from tests.relay.running import Script, Store, emit, settings, state_is, working

pytestmark = pytest.mark.anyio

NEXT = """
alter table outbox.events add column priority integer;
alter table outbox.waiting add column priority integer not null default 0;
create table outbox.drafts (id bigint primary key);
"""


OWNS = "select exists (select from outbox.lanes join outbox.relays r on r.id = relay_id where r.name = %s)"
OWED = "select (select count(*) from outbox.events) - (select count(*) from outbox.receipts where outcome = 'dead')"


def next_release(folder: Path, migration: str) -> Scripts:
    """What the next release's schema may be: one more migration, of the kind that leaves older relays alone."""
    for name in ("migrations", "functions"):
        shutil.copytree(ROOT / "schema" / name, folder / name)
    (folder / "migrations" / f"{load().version + 1:04d}_next.sql").write_text(migration)
    return load(folder)


async def test_this_relay_works_on_the_next_schema(database: str, store: Store, script: Script, tmp_path: Path) -> None:
    """One that runs goes on through the migration, and one that is restarted after it starts."""
    async with working(settings(database), script):
        first = await emit(store, "a", key="k")
        await state_is(store, first, "published")
        await to_thread.run_sync(migrate, database, next_release(tmp_path, NEXT))
        second = await emit(store, "a", key="k")
        await state_is(store, second, "published")
    async with working(settings(database), script):
        third = await emit(store, "a", key="k")
        await state_is(store, third, "published")


async def test_a_schema_that_breaks_it_is_refused_at_the_start(database: str, script: Script, tmp_path: Path) -> None:
    """In a sentence."""
    migrate(database, next_release(tmp_path, f"-- breaks older releases\n{NEXT}"))
    with pytest.raises(SchemaTooNew, match="upgrade this program"):
        async with serve(settings(database), anyio.Event(), factories=script.factories):
            pytest.fail("it started")


def test_the_next_relay_waits_for_its_schema(database: str, tmp_path: Path) -> None:
    """It says what to run: the schema goes first."""
    with pytest.raises(SchemaOutdated, match="run: outbox migrate"):
        require_current(database, next_release(tmp_path, NEXT))


def git(*arguments: str | Path) -> bytes:
    """What git says of this checkout; nothing where it has no history."""
    if shutil.which("git") is None:
        return b""
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, check=False).stdout


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The code as it was before the newest migration, from this repository's own history."""
    newest = max((ROOT / "schema/migrations").glob("*.sql"))
    added = git("log", "--diff-filter=A", "--format=%H", "--", newest).decode().split()
    archive = git("archive", f"{added[-1]}^", "outbox", "relay", "publisher", "schema") if added else b""
    if not archive:
        pytest.skip(f"the history before {newest.name} is not here; in a whole clone its release meets this schema")
    with tarfile.open(fileobj=io.BytesIO(archive)) as held:
        held.extractall(tmp_path / "before", filter="data")
    return tmp_path / "before"


@contextmanager
def relay(dsn: str, code: Path) -> Iterator[None]:
    """`outbox relay` of some release's code, until the end of the block, where it stops in order."""
    environment = {"OUTBOX_DSN": dsn, "OUTBOX_METRICS_PORT": "0", "PUBLISHER_TOKEN_KEYS": generate_key()}
    source = "import sys, schema, relay.cli; print(schema.__file__, flush=True); sys.exit(relay.cli.main(['relay']))"
    with program(source, environment={**environment, "PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}) as process:
        assert Path(read_line(process)).is_relative_to(code)
        with psycopg.connect(dsn, autocommit=True) as connection:
            name = [f"{socket.gethostname()}:{process.pid}"]
            assert poll(lambda: connection.execute(OWNS, name).fetchall() == [(True,)], seconds=60)
        yield
        process.terminate()
        assert process.wait(120) == 0


def ends(dsn: str) -> bool:
    """Whether events of many lanes that are emitted now are read, and get their receipts."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select outbox.emit('nobody.handles') from generate_series(1, 50)")
        return poll(lambda: connection.execute(OWED).fetchall() == [(0,)], seconds=60)


def test_the_release_before_works_on_this_schema_and_hands_over(empty_database: str, before: Path) -> None:
    """No invented one: its schema and its relay, the migration beside it, its restart, and this release's relay."""
    migrate(empty_database, load(before / "schema"))
    assert load(before / "schema").version < load().version
    with relay(empty_database, before):
        assert ends(empty_database)
        migrate(empty_database)
        assert ends(empty_database)
    with relay(empty_database, before):
        assert ends(empty_database)
        with relay(empty_database, ROOT):
            assert ends(empty_database)
    with relay(empty_database, ROOT):
        assert ends(empty_database)
