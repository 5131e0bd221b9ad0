"""Each check of grants, row security and vacuuming, made to find something on a real database."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest
from anyio import to_thread
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from outbox.doctor.finding import Level
from outbox.doctor.patient import Thresholds
from outbox.grants import GRANTS, grants_of
from tests.doctor.examining import found
from tests.processes import poll

pytestmark = pytest.mark.anyio

PASSWORD = "sesame"
VARIANT = """
with account as (
  insert into social.accounts (platform, remote_id, name, token_ciphertext)
  values ('instagram', '17', 'n', '') returning id
)
insert into social.content_variants (content_item_id, account_id, media_type, media_url, status)
select i.id, account.id, 'image', 'https://cdn.example/a.jpg', 'approved'
from account, (select id from social.content_items limit 1) as i
"""
GRANTED: LiteralString = """
select r.rolname, g.name, lower(g.privilege_type)
from (
  select n.nspname as name, a.grantee, a.privilege_type
  from pg_namespace as n cross join aclexplode(n.nspacl) as a
  where n.nspname in ('outbox', 'social')
  union all
  select n.nspname || '.' || c.relname, a.grantee, a.privilege_type
  from pg_class as c join pg_namespace as n on n.oid = c.relnamespace cross join aclexplode(c.relacl) as a
  where n.nspname in ('outbox', 'social')
  union all
  select n.nspname || '.' || c.relname || '.' || t.attname, a.grantee, a.privilege_type
  from pg_attribute as t join pg_class as c on c.oid = t.attrelid join pg_namespace as n on n.oid = c.relnamespace
  cross join aclexplode(t.attacl) as a
  where n.nspname in ('outbox', 'social')
  union all
  select n.nspname || '.' || p.proname, a.grantee, a.privilege_type
  from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace cross join aclexplode(p.proacl) as a
  where n.nspname in ('outbox', 'social')
) as g
join pg_roles as r on r.oid = g.grantee
where r.rolname in ('outbox_emitter', 'outbox_relay', 'outbox_operator')
"""
DEAD_ROWS: LiteralString = "select n_dead_tup > 1000 from pg_stat_all_tables where relid = 'outbox.cursors'::regclass"


@pytest.fixture
def relay_role(database: str) -> Iterator[str]:
    """The address of a database as a relay of its own role sees it."""
    name = f"relay_{secrets.token_hex(4)}"
    identifier = sql.Identifier(name)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login password {}").format(identifier, sql.Literal(PASSWORD)))
        connection.execute(sql.SQL("grant outbox_relay to {}").format(identifier))
        yield make_conninfo(database, user=name, password=PASSWORD)
        connection.execute(sql.SQL("drop owned by {}").format(identifier))
        connection.execute(sql.SQL("drop role {}").format(identifier))


def run(database: str, *statements: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def approve(database: str) -> None:
    """A variant whose event was emitted."""
    run(database, "insert into social.content_items default values", VARIANT)


async def test_policies_that_hide_variants_are_told(database: str, relay_role: str) -> None:
    """The incident: the owner sees the variant, the relay's role does not."""
    approve(database)
    assert (await found(relay_role, "row security")).level is Level.OK
    run(database, "alter table social.content_variants enable row level security")
    for dsn in (database, relay_role):
        finding = await found(dsn, "row security")
        assert finding.level is Level.FAIL
        assert "hide 1 of the last 1 variants" in finding.found
    run(database, "create policy all_of_them on social.content_variants for select to outbox_relay using (true)")
    finding = await found(relay_role, "row security")
    assert (finding.level, "hide none" in finding.found) == (Level.WARN, True)


async def test_a_variant_that_several_events_name_is_hidden_from_nobody(database: str, relay_role: str) -> None:
    """Each replay is an event of its own, and so is each account of a variant."""
    approve(database)
    run(
        database,
        "select outbox.emit('variant.created', jsonb_build_object('variant_id', id)) from social.content_variants",
    )
    assert (await found(relay_role, "row security")).level is Level.OK


async def test_policies_that_hide_accounts_are_told(database: str, relay_role: str) -> None:
    """A variant without its account can't be published either."""
    approve(database)
    run(database, "alter table social.accounts enable row level security")
    assert "and 1 of their accounts" in (await found(relay_role, "row security")).found


async def test_a_grant_that_was_taken_away_is_told(database: str, relay_role: str) -> None:
    """A table's, a column's, a function's, a schema's; with the statement that gives it back, and that does."""
    taken = [
        "select on social.usage",
        "update (token_ciphertext) on social.accounts",
        "execute on function outbox.prune",
        "usage on schema social",
    ]
    for each in taken:
        run(database, f"revoke {each} from outbox_relay")
    found_to_lack = []
    while (finding := await found(database, "grants")).level is Level.FAIL:
        found_to_lack.append(finding.found)
        run(database, str(finding.advice).removeprefix("run as the owner: ").partition(";")[0])
    assert "lacks social (usage), social.usage (select), social.accounts.token_ciphertext (update)" in found_to_lack[0]
    assert found_to_lack[0].endswith(" and 1 more")
    assert len(found_to_lack) == len(taken)
    assert (await found(relay_role, "grants")).level is Level.OK


async def test_a_relay_that_is_no_member_is_told(database: str, relay_role: str) -> None:
    """What it lacks, and what makes it one."""
    name = str(conninfo_to_dict(relay_role)["user"])
    run(database, f"revoke outbox_relay from {name}")
    with psycopg.connect(relay_role, application_name="outbox-settler"):
        finding = await found(database, "grants")
    assert (finding.level, finding.advice) == (Level.FAIL, f"run: grant outbox_relay to {name}")


def test_the_grants_are_those_of_the_migrations(database: str) -> None:
    """Of each role, to the last column: nothing is asked for that is not granted, nothing granted is left out."""
    with psycopg.connect(database) as connection:
        granted = connection.execute(GRANTED).fetchall()
    assert sorted(granted) == sorted((role, *each) for role in GRANTS for each in grants_of(role))


async def test_a_relay_that_may_do_anything_is_told(database: str) -> None:
    """As the owner, or as a superuser."""
    with psycopg.connect(database, application_name="outbox-settler"):
        finding = await found(database, "role")
    assert finding.level is Level.WARN
    assert "may do anything to the schema" in finding.found


async def test_a_relay_with_a_role_of_its_own_is_well(database: str, relay_role: str) -> None:
    """Its role is what is looked at."""
    with psycopg.connect(relay_role, application_name="outbox-settler") as relay:
        finding = await found(database, "role")
        assert (finding.level, relay.info.user in finding.found) == (Level.OK, True)
        assert relay.info.user in (await found(database, "grants")).found


async def test_a_role_that_can_not_look_as_the_relay_says_so(database: str) -> None:
    """What it can't see is no finding of health; what it can see is looked at."""
    name = f"person_{secrets.token_hex(4)}"
    identifier = sql.Identifier(name)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login password {}").format(identifier, sql.Literal(PASSWORD)))
        connection.execute(sql.SQL("grant outbox_operator to {}").format(identifier))
        try:
            dsn = make_conninfo(database, user=name, password=PASSWORD)
            assert (await found(dsn, "row security")).level is Level.WARN
            horizon = await found(dsn, "horizon")
            assert (horizon.level, f"hidden from {name}" in horizon.found) == (Level.WARN, True)
            assert f"grant pg_read_all_stats to {name}" in str(horizon.advice)
            connection.execute(sql.SQL("grant pg_read_all_stats to {}").format(identifier))
            assert "hidden" not in (await found(dsn, "horizon")).found
            assert (await found(dsn, "stuck keys")).level is Level.OK
            assert (await found(dsn, "delays")).level is Level.OK
            assert (await found(dsn, "autovacuum")).level is Level.OK
        finally:
            connection.execute(sql.SQL("drop owned by {}").format(identifier))
            connection.execute(sql.SQL("drop role {}").format(identifier))


async def test_a_relay_that_only_verifies_is_told(database: str) -> None:
    """Since when and why, and what ends it."""
    assert (await found(database, "restore guard")).level is Level.OK
    run(database, "select outbox.recognise_cluster()", "select outbox.begin_verify_only('a restore', false)")
    finding = await found(database, "restore guard")
    assert (finding.level, finding.found.endswith("UTC: a restore")) == (Level.FAIL, True)


async def test_a_log_that_belongs_to_another_cluster_is_told(database: str) -> None:
    """Its rows were written by other transactions than they say, as after a dump and restore."""
    run(database, "select outbox.recognise_cluster()", "update outbox.cluster set recognised_at = recognised_at")
    finding = await found(database, "restore guard")
    assert (finding.level, "it is copied" in finding.found) == (Level.FAIL, True)


async def test_autovacuum_that_is_off_is_told(database: str) -> None:
    """Of one of our tables."""
    assert (await found(database, "autovacuum")).level is Level.OK
    run(database, "alter table outbox.waiting set (autovacuum_enabled = false)")
    finding = await found(database, "autovacuum")
    assert (finding.level, "of outbox.waiting" in finding.found) == (Level.FAIL, True)


async def test_dead_rows_are_told(database: str) -> None:
    """Of a small table that is written often, while a snapshot keeps them from being removed."""
    with psycopg.connect(database) as snapshot, psycopg.connect(database, autocommit=True) as connection:
        snapshot.execute("set transaction isolation level repeatable read")
        snapshot.execute("select 1 from outbox.cursors")
        for _ in range(40):
            connection.execute("update outbox.cursors set position = position")
        assert await to_thread.run_sync(lambda: poll(lambda: connection.execute(DEAD_ROWS).fetchall() == [(True,)]))
        finding = await found(database, "autovacuum", thresholds=Thresholds(dead_rows=100))
    assert (finding.level, "outbox.cursors has" in finding.found) == (Level.WARN, True)
