"""The bell rings unless the lane's relay is awake, and PREPARE TRANSACTION can do without it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest
from psycopg import IsolationLevel, errors, sql

from outbox.emit import emit

MARKER = "nothing else was heard"
JOIN: LiteralString = (
    "insert into outbox.relays (name, version, leased_until, awake_until) "
    "values ('test', '0', 'infinity', clock_timestamp() + %s::interval) returning id"
)
OWN: LiteralString = "update outbox.lanes set relay_id = %s where lane = hashtextextended(%s, 0) & 63"


@pytest.fixture
def listener(database: str) -> Iterator[psycopg.Connection]:
    """Who hears the bell."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("listen outbox")
        yield connection


@pytest.fixture
def application(database: str) -> Iterator[psycopg.Connection]:
    """Who emits."""
    with psycopg.connect(database) as connection:
        yield connection


def heard(listener: psycopg.Connection) -> list[str]:
    """What was notified until now: a notification of our own marks the end."""
    listener.execute("select pg_notify('outbox', %s)", [MARKER])
    found: list[str] = []
    for notification in listener.notifies(timeout=60):
        if notification.payload == MARKER:
            return found
        found.append(notification.payload)
    pytest.fail("the marker was not heard")


def own(application: psycopg.Connection, key: str, *, awake: str | None) -> None:
    """Give the lane of a key to a relay that is awake from now for so long."""
    [(relay_id,)] = application.execute(JOIN, [awake]).fetchall()
    application.execute(OWN, [relay_id, key])
    application.commit()


def lane_of(application: psycopg.Connection, event_id: int) -> str:
    """The lane of an event, as the bell names it."""
    [(lane,)] = application.execute("select lane::text from outbox.events where id = %s", [event_id]).fetchall()
    application.commit()
    return str(lane)


def test_a_lane_without_an_owner_rings(application: psycopg.Connection, listener: psycopg.Connection) -> None:
    """Whoever takes the lane hears it; the payload is the lane."""
    event_id = emit(application, "t", {}, key="k")
    application.commit()
    assert heard(listener) == [lane_of(application, event_id)]


@pytest.mark.parametrize("awake", [None, "-1 second"])
def test_a_sleeping_relay_is_rung(
    application: psycopg.Connection, listener: psycopg.Connection, awake: str | None
) -> None:
    """A relay that never muted the bell, or whose time is over, is told."""
    own(application, "k", awake=awake)
    event_id = emit(application, "t", {}, key="k")
    application.commit()
    assert heard(listener) == [lane_of(application, event_id)]


def test_an_awake_relay_is_not_rung(application: psycopg.Connection, listener: psycopg.Connection) -> None:
    """A relay that polls anyway costs its writers no NOTIFY."""
    own(application, "k", awake="1 minute")
    emit(application, "t", {}, key="k")
    application.commit()
    assert heard(listener) == []


def test_one_relay_that_is_awake_mutes_no_others_lanes(
    application: psycopg.Connection, listener: psycopg.Connection
) -> None:
    """Only the owner of the event's own lane counts."""
    own(application, "k", awake="1 minute")
    own(application, "l", awake=None)
    event_id = emit(application, "t", {}, key="l")
    assert lane_of(application, event_id) != lane_of(application, emit(application, "t", {}, key="k"))
    assert heard(listener) == [lane_of(application, event_id)]


@pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
def test_it_always_rings_outside_read_committed(
    application: psycopg.Connection, listener: psycopg.Connection, level: IsolationLevel
) -> None:
    """An old snapshot may show a bell that was muted long ago."""
    own(application, "k", awake="1 minute")
    application.isolation_level = level
    emit(application, "t", {}, key="k")
    application.commit()
    assert len(heard(listener)) == 1


EMIT_REMEMBERING: LiteralString = """
do $$
declare
  this_second bigint;
begin
  loop
    this_second := date_part('epoch', clock_timestamp());
    perform set_config('outbox.muted_lanes', (1::bigint << (hashtextextended('k', 0) & 63)::int)::text, false);
    perform set_config('outbox.muted_lanes_known_in', this_second::text, false);
    begin
      perform outbox.emit('t', key => 'k'), outbox.emit('t', key => 'l');
      if date_part('epoch', clock_timestamp())::bigint = this_second then
        exit;
      end if;
      raise 'too slow' using errcode = 'OB000';
    exception when sqlstate 'OB000' then  -- the second was over: what it remembered was too old by then
      null;
    end;
  end loop;
end
$$
"""
REMEMBER: LiteralString = (
    "select set_config('outbox.muted_lanes', '-1', false), "
    "set_config('outbox.muted_lanes_known_in', (date_part('epoch', clock_timestamp())::bigint + %s)::text, false)"
)


def test_a_session_remembers_for_a_moment_which_lanes_are_muted(
    application: psycopg.Connection, listener: psycopg.Connection
) -> None:
    """It does not look for every event; and one lane's muted bell is not another's."""
    application.execute(EMIT_REMEMBERING)
    application.commit()
    [(lane,)] = application.execute("select lane::text from outbox.events where key = 'l'").fetchall()
    assert heard(listener) == [lane]


@pytest.mark.parametrize("from_now_seconds", [-1, 60])
def test_what_is_not_of_this_moment_is_not_remembered(
    application: psycopg.Connection, listener: psycopg.Connection, from_now_seconds: int
) -> None:
    """What was known is over, or the server's clock has been set back: the session looks, and rings."""
    application.execute(REMEMBER, [from_now_seconds])
    emit(application, "t", {}, key="k")
    application.commit()
    assert len(heard(listener)) == 1


def test_a_look_is_remembered_for_its_second(application: psycopg.Connection) -> None:
    """It is over before a relay that unmutes its bell has waited for two."""
    own(application, "k", awake="1 minute")
    [(before,)] = application.execute("select date_part('epoch', clock_timestamp())::bigint").fetchall()
    emit(application, "t", {}, key="k")
    [(known, after, lanes)] = application.execute(
        "select current_setting('outbox.muted_lanes_known_in')::bigint, date_part('epoch', clock_timestamp())::bigint, "
        "current_setting('outbox.muted_lanes')::bigint = 1::bigint << (hashtextextended('k', 0) & 63)::int"
    ).fetchall()
    assert before <= known <= after
    assert lanes


def test_a_look_that_was_rolled_back_is_forgotten(
    application: psycopg.Connection, listener: psycopg.Connection
) -> None:
    """PostgreSQL leaves the settings empty then."""
    own(application, "k", awake="1 minute")
    emit(application, "t", {}, key="k")
    application.rollback()
    assert application.execute("select current_setting('outbox.muted_lanes_known_in')").fetchone() == ("",)
    emit(application, "t", {}, key="k")
    application.commit()
    assert heard(listener) == []


def test_events_of_a_transaction_ring_once_for_each_lane(
    application: psycopg.Connection, listener: psycopg.Connection
) -> None:
    """A bulk insert is one notification a lane, not one an event."""
    for _ in range(10):
        emit(application, "t", {}, key="k")
    application.commit()
    assert len(heard(listener)) == 1


def test_a_rollback_does_not_ring(application: psycopg.Connection, listener: psycopg.Connection) -> None:
    """What never was is not announced."""
    emit(application, "t", {}, key="k")
    application.rollback()
    assert heard(listener) == []


def test_without_the_bell_a_transaction_can_be_prepared(
    application: psycopg.Connection, listener: psycopg.Connection, database: str
) -> None:
    """`outbox.ring = 'off'` emits in silence, and two-phase commit works."""
    name = sql.Literal(f"ring {database[-20:]}")
    application.execute("set local outbox.ring = 'off'")
    emit(application, "t", {}, key="k")
    application.execute(sql.SQL("prepare transaction {}").format(name))
    application.autocommit = True
    application.execute(sql.SQL("commit prepared {}").format(name))
    assert application.execute("select count(*) from outbox.events").fetchone() == (1,)
    assert heard(listener) == []


def test_a_transaction_that_rang_cannot_be_prepared(application: psycopg.Connection) -> None:
    """Why the setting exists: PostgreSQL refuses to prepare a NOTIFY."""
    emit(application, "t", {}, key="k")
    with pytest.raises(errors.FeatureNotSupported, match="NOTIFY"):
        application.execute("prepare transaction 'refused'")
