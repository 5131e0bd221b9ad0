"""Who may do what: each role can do its part and nothing else, and whoever has no role can do nothing at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, LiteralString

import psycopg
import pytest
from psycopg import errors, sql

ROLES: Final = ("outbox_emitter", "outbox_relay", "outbox_operator")

RELATIONS: LiteralString = """
select n.nspname || '.' || c.relname
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where n.nspname in ('outbox', 'social') and c.relkind in ('r', 'v', 'S')
"""
FUNCTIONS: LiteralString = """
select p.oid::regprocedure::text
from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
where n.nspname in ('outbox', 'social')
"""
PRIVILEGES: LiteralString = """
select c.name, p.privilege
from unnest(%(relations)s::text[]) as c (name), unnest(%(privileges)s::text[]) as p (privilege)
where has_table_privilege(%(role)s, c.name, p.privilege)
"""
COLUMN_PRIVILEGES: LiteralString = """
select c.name, p.privilege
from unnest(%(relations)s::text[]) as c (name), unnest(%(privileges)s::text[]) as p (privilege)
where has_any_column_privilege(%(role)s, c.name, p.privilege)
"""
EXECUTABLE: LiteralString = """
select f.name from unnest(%(functions)s::text[]) as f (name) where has_function_privilege(%(role)s, f.name, 'execute')
"""
UNSAFE: LiteralString = """
select p.oid::regprocedure::text
from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
where n.nspname in ('outbox', 'social') and p.prosecdef
  and not exists (select from unnest(p.proconfig) as s where s like 'search_path=pg_catalog, pg_temp')
"""
TOKEN: LiteralString = "select token_ciphertext from social.accounts"

# For each operator and function of pg_catalog that an emit could need, one of the same name that fits as well.
EVIL: LiteralString = """
do $$
declare
  each record;
begin
  for each in
    select o.oprname, format_type(o.oprleft, null) as lefts, format_type(o.oprright, null) as rights,
      format_type(o.oprresult, null) as results, row_number() over () as number
    from pg_operator as o
    where o.oprnamespace = 'pg_catalog'::regnamespace and o.oprkind = 'b'
      and o.oprname in ('=', '<>', '>', '<', '>=', '<=', '&', '*', '+', '-', '||', '->', '->>', '?', '~')
      and o.oprleft = any ('{text,int4,int8,int2,float8,timestamptz,jsonb,bool,xid8,numeric}'::regtype[])
  loop
    execute format(
      'create function evil.operator_%s(%s, %s) returns %s language plpgsql as '
      '$evil$ begin raise exception ''hijacked''; end $evil$',
      each.number, each.lefts, each.rights, each.results
    );
    execute format(
      'create operator evil.%s (leftarg = %s, rightarg = %s, function = evil.operator_%s)',
      each.oprname, each.lefts, each.rights, each.number
    );
  end loop;
  for each in
    select p.proname, pg_get_function_identity_arguments(p.oid) as arguments, format_type(p.prorettype, null) as results
    from pg_proc as p
    where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind = 'f' and not p.proretset
      and p.proname in (
        'random', 'floor', 'hashtextextended', 'octet_length', 'length', 'jsonb_typeof', 'clock_timestamp', 'now',
        'pg_current_xact_id', 'pg_current_snapshot', 'pg_notify', 'current_setting', 'to_timestamp', 'int4', 'int2',
        'int8', 'float8', 'text', 'timestamptz', 'set_config', 'lower', 'strpos', 'format'
      )
      and pg_get_function_identity_arguments(p.oid) !~ 'VARIADIC|internal|any'
  loop
    execute format(
      'create function evil.%I(%s) returns %s language plpgsql as '
      '$evil$ begin raise exception ''hijacked''; end $evil$',
      each.proname, each.arguments, each.results
    );
  end loop;
end
$$;
"""
EMIT: LiteralString = """
select outbox.emit(
  't', '{"a": 1}', key => 'k', sequence => 's', dedupe_key => 'd',
  publish_at => '2130-01-01Z', expires_at => '2131-01-01Z'
)
"""

EMITTERS: Final = {"emit", "status", "create_variant"}


@contextmanager
def connected_as(database: str, *roles: str) -> Iterator[psycopg.Connection]:
    """A connection of a new role that is a member of others, and of nothing else."""
    name = sql.Identifier(f"login_{secrets.token_hex(4)}")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {}").format(name))
        for role in roles:
            connection.execute(sql.SQL("grant {} to {}").format(sql.Identifier(role), name))
        connection.execute(sql.SQL("set role {}").format(name))
        try:
            yield connection
        finally:
            connection.execute("reset role")
            connection.execute(sql.SQL("drop role {}").format(name))


def names(connection: psycopg.Connection, query: LiteralString, **arguments: object) -> set[str]:
    """The first column of a query."""
    return {row[0] for row in connection.execute(query, arguments or None).fetchall()}


def privileges(database: str, role: str) -> tuple[set[tuple[str, str]], set[str]]:
    """What a role may do to tables, and which functions it may call, by their bare names."""
    kinds = ["select", "insert", "update", "references"]
    with psycopg.connect(database) as connection:
        relations, functions = list(names(connection, RELATIONS)), list(names(connection, FUNCTIONS))
        arguments = {"role": role, "relations": relations, "privileges": kinds}
        tables = set(connection.execute(COLUMN_PRIVILEGES, arguments).fetchall())
        whole = {**arguments, "privileges": ["delete", "truncate", "trigger"]}
        tables |= set(connection.execute(PRIVILEGES, whole).fetchall())
        executable = names(connection, EXECUTABLE, role=role, functions=functions)
    return tables, {name.partition("(")[0].rpartition(".")[2] for name in executable}


def test_whoever_has_no_role_can_do_nothing(database: str) -> None:
    """Not a table, not a function, not even the schemas."""
    tables, functions = privileges(database, "public")
    assert (tables, functions) == (set(), set())
    with connected_as(database) as connection:
        for query in ("select 1 from outbox.events", "select outbox.emit('t')", "select * from social.accounts"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(query.encode())


def test_an_emitter_can_emit_and_nothing_else(database: str) -> None:
    """No table is open to it: what it writes goes through functions."""
    tables, functions = privileges(database, "outbox_emitter")
    assert (tables, functions) == (set(), EMITTERS)
    with connected_as(database, "outbox_emitter") as connection:
        row = connection.execute("select outbox.emit('t', key => 'k')").fetchone()
        assert row is not None
        assert connection.execute("select state from outbox.status(%s)", row).fetchall() == [("new",)]
        for query in (
            "select 1 from outbox.events",
            "insert into outbox.events (lane, type, payload, headers) values (0, 't', '{}', '{}')",
            "select outbox.replay(1)",
            "select outbox.cancel(1)",
            "select outbox.hold(null, 'infinity', 'r')",
            "select outbox.resolve(1, true)",
            "update outbox.lanes set relay_id = null",
            TOKEN,
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(query.encode())


def test_an_operator_reads_no_token_and_writes_no_outcome(database: str) -> None:
    """It sees all else, and changes things through functions that leave a row in the audit."""
    tables, functions = privileges(database, "outbox_operator")
    written = {(name, privilege) for name, privilege in tables if privilege != "select"}
    assert written == {("social.accounts", "insert"), ("social.accounts", "update")}
    assert "emit" not in functions
    assert {"record", "emit_again", "replayable", "ring"} & functions == set()
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(
            "insert into social.accounts (platform, remote_id, name, token_ciphertext) "
            "values ('instagram', '17', 'n', 'sesame')"
        )
    with connected_as(database, "outbox_operator") as connection:
        assert connection.execute("select name from social.accounts").fetchall() == [("n",)]
        assert connection.execute("select operation from outbox.operations").fetchall() == [("account",)]
        for query in (
            TOKEN,
            "select * from social.accounts",
            "select a from social.accounts as a",
            "insert into outbox.receipts (event_id, outcome, attempts, deferrals, relay_id) select 1, 'd', 0, 0, 1",
            "delete from outbox.operations",
            "delete from outbox.events",
            "select outbox.record('replay', 1, null)",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(query.encode())


def test_a_relay_writes_outcomes_and_no_events(database: str) -> None:
    """What applications decided, what people decided and what a step said, it can't change."""
    tables, _ = privileges(database, "outbox_relay")
    changed = {name for name, privilege in tables if privilege in {"update", "delete"}}
    assert not changed & {
        "outbox.events",
        "outbox.receipts",
        "outbox.steps",
        "outbox.attempts",
        "outbox.cancellations",
        "outbox.resolutions",
        "outbox.operations",
    }
    with connected_as(database, "outbox_relay") as connection:
        for query in (
            "insert into outbox.events (lane, type, payload, headers) values (0, 't', '{}', '{}')",
            "insert into outbox.resolutions (event_id, position, name, published) values (1, 1, 'publish', true)",
            "select outbox.resolve(1, true)",
            "delete from outbox.steps",
            "update outbox.receipts set outcome = 'published'",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(query.encode())


def test_what_runs_as_its_owner_pins_its_search_path(database: str) -> None:
    """Nobody can put a function of his own in the way; emit() qualifies each name instead: see the next test."""
    with psycopg.connect(database) as connection:
        assert {name.partition("(")[0] for name in names(connection, UNSAFE)} <= {"outbox.emit"}


def test_no_function_or_operator_of_a_caller_runs_as_the_owner(database: str) -> None:
    """Whatever lies first in the caller's search_path."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create schema evil; grant usage on schema evil to public")
        connection.execute(EVIL)
        assert connection.execute(
            "select count(*) from pg_operator where oprnamespace = 'evil'::regnamespace"
        ).fetchall()
    with connected_as(database, "outbox_emitter") as connection:
        connection.execute("set search_path = evil, pg_catalog")
        with pytest.raises(errors.RaiseException, match="hijacked"):
            connection.execute("select 'a'::text = 'b'::text")
        [[first]] = connection.execute(EMIT).fetchall()
        assert connection.execute(EMIT).fetchall() == [(first,)]
        connection.execute("select outbox.emit('t')")


@pytest.mark.parametrize("role", ROLES)
def test_the_roles_can_not_log_in(database: str, role: str) -> None:
    """They are for others to be members of."""
    with psycopg.connect(database) as connection:
        query: LiteralString = "select rolcanlogin or rolsuper or rolcreaterole from pg_roles where rolname = %s"
        assert connection.execute(query, [role]).fetchall() == [(False,)]
