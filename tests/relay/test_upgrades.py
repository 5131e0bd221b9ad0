"""A release is rolled out with both versions at work: the schema first, then relay after relay."""

from __future__ import annotations

import shutil
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from relay.app import serve
from schema.errors import SchemaOutdated, SchemaTooNew
from schema.migrate import migrate, require_current
from schema.scripts import Scripts, load
from tests.processes import ROOT
from tests.relay.running import Script, Store, emit, settings, state_is, working

pytestmark = pytest.mark.anyio

NEXT = """
alter table outbox.events add column priority integer;
alter table outbox.waiting add column priority integer not null default 0;
create table outbox.drafts (id bigint primary key);
"""


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
