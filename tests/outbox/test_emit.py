"""An event is written in its application's transaction, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from outbox.emit import emit
from tests.processes import poll

COUNT: LiteralString = "select count(*) from outbox.events"
PUBLISH_AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def application(database: str) -> Iterator[psycopg.Connection]:
    """An application's connection: transactions begin by themselves and end by commit or rollback."""
    with psycopg.connect(database) as connection:
        yield connection


@pytest.fixture
def second(database: str) -> Iterator[psycopg.Connection]:
    """A second application."""
    with psycopg.connect(database) as connection:
        yield connection


@pytest.fixture
def observer(database: str) -> Iterator[psycopg.Connection]:
    """Whoever looks from outside of the transactions, in autocommit."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def value(connection: psycopg.Connection, query: LiteralString, arguments: Any = None) -> Any:
    """The one value of a query."""
    [(found,)] = connection.execute(query, arguments).fetchall()
    return found


def test_the_event_appears_with_the_callers_commit(
    application: psycopg.Connection, observer: psycopg.Connection
) -> None:
    """Nobody sees an event before its transaction commits, and everybody afterwards."""
    event_id = emit(application, "t", {})
    assert value(observer, COUNT) == 0
    application.commit()
    assert value(observer, "select id from outbox.events") == event_id


def test_a_rollback_leaves_nothing(application: psycopg.Connection) -> None:
    """An event of a transaction that is rolled back never was."""
    emit(application, "t", {})
    application.rollback()
    assert value(application, COUNT) == 0


@pytest.mark.anyio
async def test_an_async_connection_emits_in_its_own_transaction_too(
    database: str, observer: psycopg.Connection
) -> None:
    """On an async connection emit is awaited, and commits no more than on a sync one."""
    async with await psycopg.AsyncConnection.connect(database) as connection:
        await emit(connection, "t", {})
        await connection.rollback()
        event_id = await emit(connection, "t", {})
        assert value(observer, COUNT) == 0
        await connection.commit()
    assert value(observer, "select id from outbox.events") == event_id


def test_everything_given_is_stored(application: psycopg.Connection) -> None:
    """The row says what the application said."""
    expires_at = PUBLISH_AT + timedelta(hours=1)
    emit(
        application,
        "order.placed",
        {"order_id": 7},
        key="customer:3",
        sequence="s",
        dedupe_key="d",
        publish_at=PUBLISH_AT,
        expires_at=expires_at,
        headers={"traceparent": "00"},
    )
    [row] = application.execute(
        "select type, payload, key, sequence, dedupe_key, publish_at, expires_at, headers, replay_of from outbox.events"
    ).fetchall()
    assert row == (
        "order.placed", {"order_id": 7}, "customer:3", "s", "d", PUBLISH_AT, expires_at, {"traceparent": "00"}, None,
    )  # fmt: skip


def test_a_callers_row_factory_does_not_matter(database: str) -> None:
    """A connection that gives dicts gets an id like any other."""
    with psycopg.connect(database, row_factory=dict_row) as connection:
        event_id = emit(connection, "t", {})
        assert connection.execute("select id from outbox.events").fetchall() == [{"id": event_id}]


@pytest.mark.anyio
async def test_an_async_callers_row_factory_does_not_matter(database: str) -> None:
    """An async connection that gives dicts gets an id like any other."""
    async with await psycopg.AsyncConnection.connect(database, row_factory=dict_row) as connection:
        event_id = await emit(connection, "t", {})
        assert await (await connection.execute("select id from outbox.events")).fetchall() == [{"id": event_id}]


def test_plain_sql_emits(application: psycopg.Connection) -> None:
    """Any driver can emit, by position or by name, with defaults for all but the type."""
    application.execute("select outbox.emit('order.placed', '{\"order_id\": 7}', 'customer:3')")
    application.execute("select outbox.emit(type => 'order.paid')")
    found = application.execute("select type, payload, key, headers from outbox.events order by id").fetchall()
    assert found == [("order.placed", {"order_id": 7}, "customer:3", {}), ("order.paid", {}, None, {})]


def test_an_event_carries_its_top_level_transaction(application: psycopg.Connection) -> None:
    """An event that is emitted under a savepoint has the xid that windows of the log know."""
    with application.transaction(), application.transaction():
        emit(application, "t", {})
        assert value(application, "select xid = pg_current_xact_id() from outbox.events") is True


def test_created_at_is_the_instant_of_emit(application: psycopg.Connection) -> None:
    """A long transaction does not make its events older than they are."""
    emit(application, "t", {})
    emit(application, "t", {})
    assert value(application, "select count(distinct created_at) from outbox.events where created_at > now()") == 2


def test_a_dedupe_key_emits_once(application: psycopg.Connection) -> None:
    """Emitting again returns the first event's id, in the same transaction and in a later one."""
    first = emit(application, "t", {"n": 1}, dedupe_key="d")
    assert emit(application, "t", {"n": 2}, dedupe_key="d") == first
    application.commit()
    assert emit(application, "t", {"n": 3}, dedupe_key="d") == first
    assert value(application, "select payload from outbox.events") == {"n": 1}


def emit_behind(connection: psycopg.Connection, found: list[int]) -> threading.Thread:
    """Emit the dedupe key `d` in a thread that waits for whoever holds it."""

    def run() -> None:
        found.append(emit(connection, "t", {}, dedupe_key="d"))
        connection.commit()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_of_two_transactions_that_race_for_a_dedupe_key_one_emits(
    application: psycopg.Connection, second: psycopg.Connection, observer: psycopg.Connection
) -> None:
    """The second waits for the first one's end, and gets its id."""
    first = emit(application, "t", {}, dedupe_key="d")
    found: list[int] = []
    thread = emit_behind(second, found)
    pid = second.info.backend_pid
    assert poll(lambda: bool(value(observer, "select cardinality(pg_blocking_pids(%s)) > 0", [pid])))
    application.commit()
    thread.join()
    assert found == [first]
    assert value(observer, COUNT) == 1


def test_a_dedupe_key_that_was_rolled_back_is_free(
    application: psycopg.Connection, second: psycopg.Connection, observer: psycopg.Connection
) -> None:
    """The second of two racing transactions emits when the first one fails."""
    first = emit(application, "t", {}, dedupe_key="d")
    found: list[int] = []
    thread = emit_behind(second, found)
    pid = second.info.backend_pid
    assert poll(lambda: bool(value(observer, "select cardinality(pg_blocking_pids(%s)) > 0", [pid])))
    application.rollback()
    thread.join()
    assert found != [first]
    assert value(observer, "select array_agg(id) from outbox.events") == found


def test_a_snapshot_that_cannot_see_the_first_event_fails_to_serialize(
    application: psycopg.Connection, second: psycopg.Connection
) -> None:
    """REPEATABLE READ is told to try again, not given an id that it can't see."""
    second.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    assert value(second, COUNT) == 0
    emit(application, "t", {}, dedupe_key="d")
    application.commit()
    with pytest.raises(errors.SerializationFailure):
        emit(second, "t", {}, dedupe_key="d")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a_type_is_not_empty", {"type": ""}),
        ("a_payload_is_an_object", {"payload": [1]}),
        ("headers_are_an_object", {"headers": [1]}),
        ("a_sequence_needs_a_key", {"sequence": "s"}),
        ("an_event_expires_after_it_is_due", {"publish_at": PUBLISH_AT, "expires_at": PUBLISH_AT}),
        ("a_key_and_a_sequence_have_1000_bytes_at_most", {"key": "k" * 1001}),
        ("a_key_and_a_sequence_have_1000_bytes_at_most", {"key": "k", "sequence": "ü" * 501}),
        ("a_key_is_not_empty", {"key": ""}),
        ("a_dedupe_key_has_1000_bytes_at_most", {"dedupe_key": "ü" * 501}),
        ("the_dedupe_key_of_a_replay_names_what_it_replays", {"dedupe_key": "replay:1"}),
        ("the_dedupe_key_of_a_replay_names_what_it_replays", {"dedupe_key": "replay:1", "replay_of": 2}),
        ("instants_are_between_1970_and_9000", {"publish_at": "infinity"}),
        ("instants_are_between_1970_and_9000", {"expires_at": "-infinity"}),
        ("instants_are_between_1970_and_9000", {"publish_at": "1969-12-31T23:59:59Z"}),
    ],
)
def test_a_rule_that_is_broken_says_its_name(
    application: psycopg.Connection, name: str, options: dict[str, Any]
) -> None:
    """Each rule of the log refuses, by name, what breaks it."""
    arguments: dict[str, Any] = dict.fromkeys(
        ("key", "sequence", "dedupe_key", "publish_at", "expires_at", "replay_of")
    )
    arguments |= {"type": "t", "payload": {}, "headers": {}, **options}
    arguments |= {"payload": Jsonb(arguments["payload"]), "headers": Jsonb(arguments["headers"])}
    with pytest.raises(errors.CheckViolation) as raised:
        application.execute(
            "select outbox.emit(type => %(type)s, payload => %(payload)s, headers => %(headers)s, "
            "key => %(key)s, sequence => %(sequence)s, dedupe_key => %(dedupe_key)s, publish_at => %(publish_at)s, "
            "expires_at => %(expires_at)s, replay_of => %(replay_of)s)",
            arguments,
        )
    assert raised.value.diag.constraint_name == name


def test_an_event_has_a_type(application: psycopg.Connection) -> None:
    """A null type is refused."""
    with pytest.raises(errors.NotNullViolation):
        application.execute("select outbox.emit(type => null)")


def test_a_lane_follows_from_the_key(application: psycopg.Connection) -> None:
    """The same key always travels in the same lane, also beside another sequence and type."""
    for number in range(50):
        emit(application, "t", {}, key=f"k{number}")
        emit(application, "u", {}, key=f"k{number}", sequence="s")
    lanes = application.execute(
        "select key, array_agg(distinct lane::bigint), hashtextextended(key, 0) & 63 from outbox.events group by key"
    ).fetchall()
    assert all(found == [expected] and 0 <= expected < 64 for _, found, expected in lanes)
    assert len({expected for _, _, expected in lanes}) > 10


def test_events_without_a_key_spread_over_the_lanes(application: psycopg.Connection) -> None:
    """What nothing routes is shared out."""
    application.execute("select outbox.emit('t') from generate_series(1, 500)")
    assert value(application, "select count(distinct lane) from outbox.events") > 32
    assert value(application, "select bool_and(lane between 0 and 63) from outbox.events")


SHADOWS: LiteralString = """
create schema mine;
create function mine.complain() returns void language plpgsql as $$ begin raise 'a caller''s function ran'; end $$;
do $do$
declare
  found record;
  kinds constant regtype[] := array[
    'bool', 'int2', 'int4', 'int8', 'float8', 'numeric', 'text', 'jsonb', 'xid8', 'timestamptz', 'interval'
  ];
begin
  for found in
    select o.oid, oprname, oprleft::regtype as left, oprright::regtype as right, oprresult::regtype as result
    from pg_operator as o
    where oprleft = any (kinds) and oprright = any (kinds) and oprnamespace = 'pg_catalog'::regnamespace
  loop
    execute format(
      'create function mine.o%s(%s, %s) returns %s language plpgsql as $$ begin perform mine.complain(); end $$',
      found.oid, found.left, found.right, found.result
    );
    execute format(
      'create operator mine.%s (leftarg = %s, rightarg = %s, function = mine.o%s)',
      found.oprname, found.left, found.right, found.oid
    );
  end loop;
  for found in
    select p.oid, proname, prorettype::regtype as result, pg_get_function_identity_arguments(p.oid) as arguments
    from pg_proc as p
    where pronamespace = 'pg_catalog'::regnamespace and prokind = 'f' and not proretset
      and prorettype <> 'internal'::regtype
      and proname in (
        'pg_current_xact_id', 'jsonb_typeof', 'format', 'floor', 'random', 'hashtextextended', 'current_setting',
        'set_config', 'date_part', 'clock_timestamp', 'pg_notify', 'octet_length', 'now'
      )
      and not pg_get_function_identity_arguments(p.oid) like '%VARIADIC%'
  loop
    execute format(
      'create function mine.%I(%s) returns %s language plpgsql as $$ begin perform mine.complain(); end $$',
      found.proname, found.arguments, found.result
    );
  end loop;
end
$do$;
create domain mine.text as pg_catalog.text check (mine.complain() is null);
create domain mine.xid8 as pg_catalog.xid8 check (mine.complain() is null);
create domain mine.timestamptz as pg_catalog.timestamptz check (mine.complain() is null);
create domain mine.jsonb as pg_catalog.jsonb check (mine.complain() is null);
create domain mine.float8 as pg_catalog.float8 check (mine.complain() is null);
grant usage on schema mine to outbox_emitter;
set search_path = mine, pg_catalog;
set role outbox_emitter;
"""


def test_nothing_of_the_callers_search_path_runs_with_the_owners_rights(application: psycopg.Connection) -> None:
    """`emit` and the bell don't pin a search_path, so each name and operator in them is qualified."""
    application.execute(SHADOWS)
    for attack in ("select 1 + 1", "select 'a' = 'b'::pg_catalog.text", "select 'a'::text", "select random()"):
        with pytest.raises(errors.RaiseException, match="a caller's function ran"), application.transaction():
            application.execute(attack)
    assert value(application, "select outbox.emit('t', '{\"n\": 1}', 'k', 's', 'd', '2030-01-01Z', '2031-01-01Z')")
    application.execute("select outbox.emit('t')")
    application.execute("select outbox.emit('t', dedupe_key => 'd')")
    with pytest.raises(errors.CheckViolation), application.transaction():
        application.execute("select outbox.emit('')")
    application.commit()
    application.execute("select outbox.emit('t')")  # the bell's memory is read now


def test_an_emitter_emits_and_asks_how_it_stands(application: psycopg.Connection) -> None:
    """The emitter's role is enough for an application."""
    application.execute("set role outbox_emitter")
    event_id = emit(application, "t", {}, key="k")
    assert value(application, "select state from outbox.status(%s)", [event_id]) == "new"


@pytest.mark.parametrize(
    "statement",
    [
        "select from outbox.events",
        "insert into outbox.events (lane, type, payload, headers) values (1, 't', '{}', '{}')",
        "update outbox.events set type = 'u'",
        "delete from outbox.events",
        "select from outbox.receipts",
        "select from outbox.steps",
        "select from outbox.attempts",
        "delete from outbox.waiting",
        "delete from outbox.holds",
        "insert into outbox.cancellations (event_id) values (1)",
        "update outbox.lanes set relay_id = null",
        "update outbox.relays set awake_until = 'infinity'",
        "update outbox.cursors set position = 0",
        "select from outbox.event_states",
        "select outbox.replay(1)",
        "select outbox.cancel(1)",
        "select outbox.release('k')",
        "select outbox.may_be_live(1)",
        "select from social.accounts",
        "select from social.content_variants",
        "select from social.publish_jobs",
    ],
)
def test_an_emitter_can_do_nothing_else(application: psycopg.Connection, statement: LiteralString) -> None:
    """The emitter's role neither reads the store nor changes it."""
    application.execute("set role outbox_emitter")
    with pytest.raises(errors.InsufficientPrivilege):
        application.execute(statement)


@pytest.mark.parametrize("role", ["outbox_relay", "outbox_operator"])
def test_only_emitters_emit(application: psycopg.Connection, role: str) -> None:
    """No other role writes into the log."""
    application.execute("select set_config('role', %s, false)", [role])
    with pytest.raises(errors.InsufficientPrivilege):
        emit(application, "t", {})
