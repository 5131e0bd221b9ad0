"""`outbox doctor`: a line for each check, and the exit status of the worst."""

from __future__ import annotations

import psycopg

from relay.cli.diagnosing import WARNED
from tests.cli.calling import Outbox

SOUND = """
insert into outbox.relays (name, version, leased_until) values ('h', '0', clock_timestamp() + interval '1 hour');
update outbox.lanes set relay_id = (select max(id) from outbox.relays)
"""


def test_the_status_is_of_the_worst(outbox: Outbox, database: str) -> None:
    """1 for a failure; the lines say what to do."""
    answer = outbox("doctor")
    assert answer.status == 1
    assert any(line.startswith("fail\tlanes\tno relay works\t") for line in answer.lines)
    objects = outbox("doctor", "--json").objects
    assert all(set(each) == {"check", "level", "found", "advice"} for each in objects)
    assert {each["level"] for each in objects} <= {"ok", "warn", "fail"}


def test_a_warning_has_a_status_of_its_own(outbox: Outbox, database: str) -> None:
    """And where all is well it is 0."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SOUND)
        levels = {each["check"]: each["level"] for each in outbox("doctor", "--json").objects}
        levels.pop("durability")  # the tests' server runs without fsync
        assert "fail" not in levels.values()
    assert WARNED not in {0, 1, 2}


def test_a_server_that_is_not_there_fails(unset: Outbox) -> None:
    """With one line."""
    unset.set(OUTBOX_DSN="postgresql://u@127.0.0.1:1/db")
    answer = unset("doctor")
    assert (answer.status, len(answer.lines)) == (1, 1)
