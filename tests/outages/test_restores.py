"""The restore guard: a log that may have forgotten what is live publishes nothing until a person has looked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import AsyncConnection, sql
from structlog.testing import capture_logs

from schema.binaries import find_binaries
from schema.embedded import EmbeddedPostgres
from schema.migrate import migrate
from schema.unprivileged import choose_account
from tests.outages.restoring import (
    Archive,
    Replica,
    dump_and_restore,
    home,
    initialise,
    older_than,
    run,
    several_hosts,
    tool,
)
from tests.outages.studio import Studio, ask, open_studio, ready, settled, verifies_only
from tests.postgres import SETTINGS
from tests.relay.running import Script, emit, eventually, relay, settings, value

pytestmark = pytest.mark.anyio

Server = Callable[..., EmbeddedPostgres]

UNKNOWN = "select count(*) from outbox.waiting where reason = 'unknown' and due_at = 'infinity'"
IS_REPLICATED = "select not exists (select from pg_subscription_rel where srsubstate not in ('s', 'r'))"
PUBLISHED = "select count(*) from outbox.receipts where outcome = 'published'"


@pytest.fixture
async def studio() -> AsyncIterator[Studio]:
    """A sandbox with no account yet."""
    async with open_studio() as studio:
        yield studio


def migrated(server: EmbeddedPostgres) -> str:
    """A migrated database of a server."""
    dsn = server.create_database("app")
    migrate(dsn)
    return dsn


async def test_a_dump_restored_into_a_new_cluster_publishes_nothing_again(
    studio: Studio, own_server: Server, tmp_path: Path
) -> None:
    """What was published after the dump goes to a person, what was not due is published, and what comes after works."""
    old = own_server()
    dsn = migrated(old)
    await studio.open_accounts(dsn)
    await studio.approve(dsn, "instagram", 2)
    async with studio.relay(dsn):
        await settled(dsn, 2)
    await studio.approve(dsn, "instagram", 3)
    # Far more transactions than the new cluster has seen: the xids are ahead of it.
    restored = dump_and_restore(dsn, own_server(), tmp_path)
    async with studio.relay(dsn):
        await settled(dsn, 5)
    assert await studio.live_count() == 5
    old.stop()
    with capture_logs() as logs:
        async with studio.relay(restored) as url:
            await eventually(lambda: verifies_only(url))
            refused = await studio.recover(restored, "--confirm")
            assert (refused.status, "--verify first" in refused.sentence()) == (1, True)
            verified = await studio.recover(restored, "--verify", "--json")
            assert [each["verdict"] for each in verified.objects] == ["person"] * 3, verified.err
            assert await verifies_only(url)
            assert (await studio.recover(restored, "--confirm")).status == 0
            await eventually(lambda: ready(url), seconds=120)
            await studio.approve(restored, "facebook", 1)
            await settled(restored, 3)
    assert await studio.live_count() == 6
    assert (ask(restored, UNKNOWN), ask(restored, PUBLISHED)) == (3, 3)
    assert [line["event"] for line in logs].count("relay.verifies_only") == 1


async def test_a_restored_event_that_was_not_published_is_published_once(
    studio: Studio, own_server: Server, tmp_path: Path
) -> None:
    """Verified absent: the log's xids are given anew, and the relay reads what it could not have seen."""
    old = own_server()
    dsn = migrated(old)
    await studio.open_accounts(dsn)
    await studio.approve(dsn, "instagram", 1)
    async with studio.relay(dsn):
        await settled(dsn, 1)
    await studio.approve(dsn, "facebook", 2)
    restored = dump_and_restore(dsn, own_server(), tmp_path)
    old.stop()
    async with studio.relay(restored) as url:
        await eventually(lambda: verifies_only(url))
        verified = await studio.recover(restored, "--verify", "--json")
        assert [each["verdict"] for each in verified.objects] == ["absent"] * 2, verified.err
        again = await studio.recover(restored, "--verify", "--json")
        assert again.objects == verified.objects
        confirmed = await studio.recover(restored, "--confirm")
        assert confirmed.status == 0
        nothing = await studio.recover(restored, "--confirm")
        assert (nothing.status, "nothing to recover" in nothing.sentence()) == (1, True)
        await settled(restored, 3)
    async with studio.relay(restored) as url:
        await eventually(lambda: ready(url))
    assert await studio.live_count() == 3


async def test_a_restore_to_before_the_last_receipts_publishes_nothing_again(
    studio: Studio, own_server: Server, tmp_path: Path
) -> None:
    """100 receipts are forgotten, the API remembers: all 100 wait for a person."""
    archive = Archive(tmp_path / "archive")
    server = own_server(archive.settings)
    dsn = migrated(server)
    await studio.open_accounts(dsn)
    archive.back_up(dsn)
    await studio.approve(dsn, "instagram", 2)
    async with studio.relay(dsn):
        await settled(dsn, 2)
    await studio.approve(dsn, "instagram", 50)
    await studio.approve(dsn, "facebook", 50)
    lsn = ask(dsn, "select pg_current_wal_insert_lsn()::text")
    async with studio.relay(dsn, concurrency=32):
        await settled(dsn, 102)
    assert await studio.live_count() == 102
    archive.finish(dsn)
    server.stop()
    with archive.restore(lsn=lsn) as restored:
        dsn = restored.dsn("app")
        assert ask(dsn, "select count(*) from outbox.receipts") == 2
        async with studio.relay(dsn, lease_seconds=2) as url:
            await eventually(lambda: verifies_only(url), seconds=120)
            verified = await studio.recover(dsn, "--verify", "--json")
            assert [each["verdict"] for each in verified.objects] == ["person"] * 100, verified.err
            assert (await studio.recover(dsn, "--confirm", "--yes")).status == 0
            await eventually(lambda: ready(url), seconds=120)
            await studio.approve(dsn, "facebook", 1)
            await settled(dsn, 3)
        assert ask(dsn, UNKNOWN) == 100
    assert await studio.live_count() == 103


async def test_a_relay_that_lived_through_a_failover_goes_on(
    studio: Studio, own_server: Server, tmp_path: Path
) -> None:
    """A real streaming replica is promoted: what the relay knows to be committed is there, and nothing is repeated."""
    primary = own_server({"wal_level": "replica", "synchronous_standby_names": ""})
    dsn = migrated(primary)
    await studio.open_accounts(dsn)
    replica = Replica(primary, tmp_path / "replica")
    with replica.server:
        both = several_hosts(dsn, replica.server.dsn("app"))
        async with studio.relay(both) as url:
            await studio.approve(dsn, "instagram", 5)
            await settled(dsn, 5)
            # A fast shutdown sends everything to the replica first.
            primary.stop()
            replica.promote()
            await eventually(lambda: ready(url), seconds=120)
            promoted = replica.server.dsn("app")
            await studio.approve(promoted, "facebook", 5)
            await settled(promoted, 10)
        assert ask(promoted, "select timeline from outbox.cluster") == 2
    assert await studio.live_count() == 10


async def test_a_failover_that_lost_commits_is_noticed(studio: Studio, own_server: Server, tmp_path: Path) -> None:
    """The replica was behind: what the relay knows to be committed is missing, and it stands still."""
    primary = own_server({"wal_level": "replica"})
    dsn = migrated(primary)
    await studio.open_accounts(dsn)
    replica = Replica(primary, tmp_path / "replica")
    with replica.server:
        promoted = replica.server.dsn("app")
        both = several_hosts(dsn, promoted)
        async with studio.relay(both) as url:
            await studio.approve(dsn, "instagram", 1)
            await settled(promoted, 1)
            replica.fall_behind()
            await studio.approve(dsn, "instagram", 4)
            await settled(dsn, 5)
            primary.stop("immediate")
            replica.promote()
            await eventually(lambda: verifies_only(url), seconds=120)
            # Those four events are lost with their variants: nothing is left to be published again.
            assert (await studio.recover(promoted, "--verify")).status == 0
            assert (await studio.recover(promoted, "--confirm")).status == 0
            await eventually(lambda: ready(url), seconds=120)
            await studio.approve(promoted, "facebook", 1)
            await settled(promoted, 2)
    assert await studio.live_count() == 6


async def test_an_upgraded_cluster_is_recognised(studio: Studio, tmp_path: Path) -> None:
    """pg_upgrade keeps rows and xids: the relay goes on by itself, and repeats nothing."""
    new = find_binaries()
    old = older_than(new)
    if old is None:
        pytest.skip("needs programs of an older PostgreSQL beside the newest: apt-get install postgresql")
    upgrade = tool("pg_upgrade")
    with EmbeddedPostgres.start(directory=home(tmp_path / "old"), bindir=old.directory, settings=SETTINGS) as server:
        dsn = migrated(server)
        await studio.open_accounts(dsn)
        await studio.approve(dsn, "instagram", 3)
        async with studio.relay(dsn):
            await settled(dsn, 3)
        await studio.approve(dsn, "instagram", 1)
    checksums = "--no-data-checksums" if new.major >= 18 else ""
    data = initialise(new, home(tmp_path / "new"), checksums)
    work = tmp_path / "work"
    work.mkdir()
    choose_account().give(work)
    run(
        *(upgrade, "--username=postgres", f"--old-bindir={old.directory}", f"--new-bindir={new.directory}"),
        *(f"--old-datadir={tmp_path / 'old' / 'cluster' / 'data'}", f"--new-datadir={data}", f"--socketdir={work}"),
        cwd=work,
    )
    with EmbeddedPostgres.start(directory=tmp_path / "new", bindir=new.directory, settings=SETTINGS) as server:
        dsn = server.dsn("app")
        with capture_logs() as logs:
            async with studio.relay(dsn):
                await settled(dsn, 4)
                await studio.approve(dsn, "facebook", 1)
                await settled(dsn, 5)
        assert [line["finding"] for line in logs if line["event"] == "cluster.recognised"] == ["upgraded"]
    assert await studio.live_count() == 5


async def test_a_cloned_database_publishes_nothing(studio: Studio, own_server: Server) -> None:
    """A staging copy made with a template has the production's events: one of the two would publish them twice."""
    server = own_server()
    dsn = migrated(server)
    await studio.open_accounts(dsn)
    async with studio.relay(dsn) as url:
        await eventually(lambda: ready(url))
    await studio.approve(dsn, "instagram", 1)
    clone = server.create_database("clone", template="app")
    async with studio.relay(clone) as url:
        await eventually(lambda: verifies_only(url))
    assert await studio.live_count() == 0


async def test_a_person_can_have_relays_stand_still(studio: Studio, database: str) -> None:
    """A file system's snapshot that was put back leaves no trace in the database: somebody has to say so."""
    await studio.open_accounts(database)
    async with studio.relay(database) as url:
        await eventually(lambda: ready(url))
        begin = ("--begin", "--reason", "the volume was rolled back")
        assert (await studio.recover(database, *begin, "--dry-run")).status == 0
        assert ask(database, "select count(*) from outbox.cluster where verify_only_since is not null") == 0
        assert (await studio.recover(database, *begin)).status == 0
        await eventually(lambda: verifies_only(url), seconds=120)
        await studio.approve(database, "instagram", 1)
        shown = await studio.recover(database)
        assert "the volume was rolled back" in shown.err
        assert "no trace" in shown.out
        assert ask(database, "select count(*) from outbox.receipts") == 0
        assert (await studio.recover(database, "--verify", "--dry-run")).status == 0
        assert (await studio.recover(database, "--confirm")).status == 1  # a try is no look
        assert (await studio.recover(database, "--verify", "--reason", "looked at by dana")).status == 0
        assert "would work again" in (await studio.recover(database, "--confirm", "--dry-run")).out
        assert (await studio.recover(database, "--confirm", "--reason", "restored to 03:00")).status == 0
        await settled(database, 1)
    assert await studio.live_count() == 1
    why = "select string_agg(reason, ', ' order by id) from outbox.operations where operation like '%verif%'"
    assert ask(database, why) == "the volume was rolled back, looked at by dana, restored to 03:00"


async def test_what_was_published_from_what_the_log_knows_as_prepared_ends_as_published(
    studio: Studio, database: str
) -> None:
    """The restore forgot the call, and the deadline has passed since: Meta's word on the container outweighs that."""
    await studio.open_accounts(database)
    await studio.approve(database, "instagram", 1)
    async with studio.relay(database):
        await settled(database, 1)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("delete from outbox.receipts")
        connection.execute("delete from outbox.steps where name <> 'container'")
        connection.execute("update outbox.events set expires_at = created_at + interval '1 microsecond'")
        connection.execute("update outbox.cursors set seen = '1:1:', \"window\" = '1:1:', position = 0")
        connection.execute("select outbox.begin_verify_only('restored to before the call')")
    verified = await studio.recover(database, "--verify", "--json")
    assert [each["verdict"] for each in verified.objects] == ["live"], verified.err
    assert (await studio.recover(database, "--confirm")).status == 0
    async with studio.relay(database):
        await settled(database, 1)
    assert ask(database, PUBLISHED) == 1
    assert await studio.live_count() == 1


async def test_a_log_that_logical_replication_brought_is_not_read(own_server: Server) -> None:
    """Its rows are in order, and its xids are another cluster's."""
    source = migrated(own_server({"wal_level": "logical"}))
    target = migrated(own_server())
    script = Script()
    async with relay(settings(source), script) as url:
        await eventually(lambda: ready(url))
        async with await AsyncConnection.connect(source, autocommit=True) as connection:
            for name in ("a", "b"):
                await emit(connection, name)
            await connection.execute("create publication everything for all tables")
        await settled(source, 2)
    async with await AsyncConnection.connect(target, autocommit=True) as connection:
        # What a migration has filled comes from there too, and a table that clashes is tried again for ever.
        await connection.execute("truncate outbox.lanes, outbox.cursors, outbox.migrations, outbox.migrated_functions")
        await connection.execute("truncate social.placements")
        subscription = sql.SQL("create subscription everything connection {} publication everything")
        await connection.execute(subscription.format(sql.Literal(source)))
        await eventually(lambda: value(connection, IS_REPLICATED), seconds=120)
    await settled(target, 2)
    async with relay(settings(target), script) as url:
        await eventually(lambda: verifies_only(url), seconds=120)
    assert script.calls == ["a", "b"]


async def test_the_relays_role_may_guard(own_server: Server) -> None:
    """Neither the relay nor the owner of the schema needs to be superuser to see which cluster this is."""
    server = own_server()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("create role owner login createrole")
        connection.execute("create database app owner owner")
    as_owner = server.dsn("app").replace("postgres@", "owner@")
    migrate(as_owner)
    with psycopg.connect(server.dsn("app"), autocommit=True) as connection:
        connection.execute("create role worker login in role outbox_relay")
    async with relay(settings(as_owner.replace("owner@", "worker@")), Script()) as url:
        await eventually(lambda: ready(url))
    assert ask(server.dsn("app"), "select system_identifier is not null and timeline = 1 from outbox.cluster")
