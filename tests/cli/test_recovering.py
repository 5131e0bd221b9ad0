"""`outbox recover`: data to stdout, words and logs to stderr."""

from __future__ import annotations

import psycopg
import pytest
from pydantic import SecretStr

from outbox import database as connections
from publisher.accounts import add_account
from publisher.tokens import KeyRing, generate_key
from tests.cli.calling import Outbox, run
from tests.operations.histories import Histories

pytestmark = pytest.mark.anyio

CANDIDATE_COUNT = 12
"""So many looks that nobody answers open the circuit, which the publisher logs."""


async def test_what_the_publisher_logs_is_no_data(outbox: Outbox, database: str) -> None:
    """Each line of stdout is an object, though Graph answers nobody."""
    key = generate_key()
    async with await connections.connect(database, application_name="test") as connection:
        token = SecretStr("EAAsesamesesame")
        await add_account(connection, KeyRing(key), platform="instagram", remote_id="17", name="n", token=token)
    with psycopg.connect(database, autocommit=True) as opened:
        for number in range(CANDIDATE_COUNT):
            url = f"https://cdn.example/{number}.jpg"
            opened.execute("select social.create_variant('instagram:17', %s)", [url])
        opened.execute("select outbox.begin_verify_only('a copy was put back', false)")
    variables = {"PUBLISHER_TOKEN_KEYS": key, "PUBLISHER_GRAPH_URL": "http://127.0.0.1:1"}
    answer = run("recover", "--verify", "--json", OUTBOX_DSN=database, **variables)
    assert answer.status == 1
    assert [each["verdict"] for each in answer.objects] == ["unreadable"] * CANDIDATE_COUNT
    assert "circuit.opened" in answer.err


def test_nobody_is_asked_about_what_is_refused(outbox: Outbox, histories: Histories) -> None:
    """Relays that may work have nothing confirmed, however much there is to do."""
    for _ in range(21):
        histories.emit()
    answer = outbox("recover", "--confirm")
    assert (answer.status, "there is nothing to recover" in answer.sentence()) == (1, True)


def test_relays_are_told_to_stand_still(outbox: Outbox) -> None:
    """Tried first, then done; for machines too."""
    begin = ("recover", "--begin", "--reason", "a snapshot is put back")
    assert outbox(*begin, "--dry-run", "--json").objects == [{"is_done": False}]
    assert "there is nothing to recover" in outbox("recover").err
    assert outbox(*begin, "--json").objects == [{"is_done": True}]
    assert "a snapshot is put back" in outbox("recover").err


def test_a_clone_is_told_before_any_relay_has_looked(outbox: Outbox, database: str) -> None:
    """Looking at it, or trying to verify, leaves nothing behind."""
    with psycopg.connect(database, autocommit=True) as opened:
        opened.execute("select outbox.recognise_cluster()")
        opened.execute("update outbox.cluster set xid = pg_current_xact_id(), database_oid = 1")
        opened.execute("select outbox.emit('t')")
        shown = outbox("recover")
        assert "relays stand still as soon as one looks: this database is a copy of another one" in shown.err
        assert "no trace" in shown.out
        tried = run("recover", "--verify", "--dry-run", OUTBOX_DSN=database, PUBLISHER_TOKEN_KEYS=generate_key())
        assert (tried.status, "not_looked_for" in tried.out) == (0, True), tried.err
        written = (
            "select (select count(*) from outbox.operations), (select count(verify_only_since) from outbox.cluster)"
        )
        assert opened.execute(written).fetchall() == [(0, 0)]
