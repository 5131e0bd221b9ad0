"""The table of errors: every documented one has its reaction, and only the definite ones are definite."""

from __future__ import annotations

import pytest

from publisher.error_table import TABLE, Reaction
from publisher.errors import GraphError, NoAnswer, NotSent
from publisher.reactions import classify, classify_status, row_for
from tests.publisher.sheet import SHEET

RETRY, RECONCILE, DEFER = Reaction.RETRY, Reaction.RECONCILE, Reaction.DEFER

# A code is always there; where the sheet knows the subcode alone, any other will do.
REVERSIBLE = [(100 if line.code is None else line.code, line.subcode, line.reaction) for line in SHEET]
DEFINITE = [
    (9007, 2207027),
    (24, 2207008),
    (24, 2207006),
    (9, 2207042),
    (100, None),
    (100, 33),
    (100, 2207023),
    (190, None),
    (190, 463),
    (190, 1234),
    (10, None),
    (200, None),
    (299, None),
    (25, 2207050),
]
INDEFINITE = [
    (4, 2207051),
    (4, None),
    (1, None),
    (2, None),
    (-1, 2207001),
    (-2, 2207003),
    (-3, None),
    (80002, None),
    (506, None),
]


def error(code: int, subcode: int | None = None, status: int = 400) -> GraphError:
    return GraphError("media_publish", "Something", code=code, subcode=subcode, status=status)


@pytest.mark.parametrize(("code", "subcode", "reaction"), REVERSIBLE)
def test_a_reversible_call_follows_the_table(code: int, subcode: int | None, reaction: Reaction) -> None:
    """Each documented error of a read or a create has its reaction."""
    assert classify(error(code, subcode), irreversible=False).reaction is reaction


def test_every_row_is_tested() -> None:
    """No row of the table is without an expectation."""
    tested = {id(row_for(code, subcode)) for code, subcode, _ in REVERSIBLE}
    assert [row for row in TABLE if id(row) not in tested] == []


@pytest.mark.parametrize(("code", "subcode"), DEFINITE)
def test_a_definite_refusal_of_an_irreversible_call_is_taken_at_its_word(code: int, subcode: int | None) -> None:
    """What certainly came before anything was published is not reconciled."""
    assert classify(error(code, subcode), irreversible=True).reaction is not RECONCILE


@pytest.mark.parametrize(("code", "subcode"), INDEFINITE)
def test_any_other_error_of_an_irreversible_call_is_reconciled(code: int, subcode: int | None) -> None:
    """The post may be live."""
    assert classify(error(code, subcode), irreversible=True).reaction is RECONCILE


def test_only_listed_codes_are_definite() -> None:
    """No row calls itself definite that is not on the list."""
    codes = {row.code for row in TABLE if row.definite}
    assert codes == {9, 10, 24, 25, 100, 190, 200, 9007}
    assert {row.subcode for row in TABLE if row.definite and row.code in {9, 24, 25, 9007}} == {
        2207006,
        2207008,
        2207027,
        2207042,
        2207050,
    }


@pytest.mark.parametrize("status", [400, 403, 500])
def test_the_http_status_says_nothing(status: int) -> None:
    """A code decides alike under any status."""
    assert classify(error(4, 2207051, status), irreversible=False).reaction is DEFER
    assert classify(error(4, 2207051, status), irreversible=True).reaction is RECONCILE


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_an_unknown_code_is_retried_or_reconciled(status: int) -> None:
    """What the table doesn't know is never dead, and never repeated where it may be live."""
    assert classify(error(424242, None, status), irreversible=False).reaction is RETRY
    assert classify(error(424242, None, status), irreversible=True).reaction is RECONCILE


def test_no_answer_is_unknown_and_not_sent_is_not() -> None:
    """Only a connection that was never made proves that an irreversible call did nothing."""
    assert classify(NoAnswer("x"), irreversible=False).reaction is RETRY
    assert classify(NoAnswer("x"), irreversible=True).reaction is RECONCILE
    assert classify(NotSent("x"), irreversible=True).reaction is RETRY


def test_a_video_number_counts_as_subcode_too() -> None:
    """The Video API's numbers come at either place."""
    assert row_for(100, 1363024).code == 1363024


@pytest.mark.parametrize(
    ("text", "subcode"),
    [
        ("Error: Media upload has failed with error code 2207026", 2207026),
        ("Error: 2207052", 2207052),
        ("Error: Media upload has failed with error code 2207077.", 2207077),
        ("Fehler: 12207026", None),
        ("", None),
    ],
)
def test_the_status_text_of_a_container_holds_the_subcode(text: str, subcode: int | None) -> None:
    """A number of seven digits that begins with 2207, and nothing else."""
    assert classify_status(text).subcode == subcode
