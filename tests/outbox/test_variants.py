"""No way of approving a variant forgets its event, and none makes two."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

ACCOUNT = "instagram:17841400000000000"
MEDIA = "https://media.example/1.jpg"
PUBLISH_AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
CREATE: LiteralString = "select social.create_variant(%s, %s)"
CREATE_DRAFT: LiteralString = "select social.create_variant(%s, %s, approved => false)"
COUNT: LiteralString = "select count(*) from outbox.events"


@pytest.fixture
def application(database: str) -> Iterator[psycopg.Connection]:
    """An application's connection, with one account in the database."""
    with psycopg.connect(database) as connection:
        connection.execute(
            "insert into social.accounts (platform, remote_id, name, token_ciphertext) "
            "values ('instagram', '17841400000000000', 'Test', '\\x00')"
        )
        connection.commit()
        yield connection


def value(connection: psycopg.Connection, query: LiteralString, arguments: Any = None) -> Any:
    """The one value of a query."""
    [(found,)] = connection.execute(query, arguments).fetchall()
    return found


def test_a_variant_that_is_created_approved_has_its_event(application: psycopg.Connection) -> None:
    """The event names the variant and its account, and cannot be emitted twice."""
    variant: UUID = value(application, CREATE, [ACCOUNT, MEDIA])
    [row] = application.execute("select type, key, dedupe_key, payload ->> 'variant_id' from outbox.events").fetchall()
    assert row == ("variant.created", ACCOUNT, f"story:{variant}", str(variant))


def test_times_and_sequence_travel_with_the_event(application: psycopg.Connection) -> None:
    """What orders and limits the variant orders and limits its event."""
    expires_at = PUBLISH_AT + timedelta(hours=1)
    application.execute(
        "select social.create_variant(%s, %s, sequence => 'slides', publish_at => %s, expires_at => %s)",
        [ACCOUNT, MEDIA, PUBLISH_AT, expires_at],
    )
    [row] = application.execute("select sequence, publish_at, expires_at from outbox.events").fetchall()
    assert row == ("slides", PUBLISH_AT, expires_at)


def test_a_draft_has_no_event_until_it_is_approved(application: psycopg.Connection) -> None:
    """Approving emits, drafting does not."""
    variant = value(application, CREATE_DRAFT, [ACCOUNT, MEDIA])
    assert value(application, COUNT) == 0
    application.execute("update social.content_variants set status = 'approved' where id = %s", [variant])
    assert value(application, "select payload ->> 'variant_id' from outbox.events") == str(variant)


@pytest.mark.parametrize(
    "change",
    [
        "update social.content_variants set media_url = 'https://media.example/2.jpg'",
        "update social.content_variants set status = 'approved'",
        "update social.content_variants set status = 'draft'",
    ],
)
def test_changing_an_approved_variant_emits_no_second_event(
    application: psycopg.Connection, change: LiteralString
) -> None:
    """One variant has one event, also when it is drafted and approved again."""
    application.execute(CREATE, [ACCOUNT, MEDIA])
    application.execute(change)
    application.execute("update social.content_variants set status = 'approved'")
    assert value(application, COUNT) == 1


def test_a_variant_that_is_rolled_back_has_no_event(application: psycopg.Connection) -> None:
    """Variant and event stand or fall together."""
    application.execute(CREATE, [ACCOUNT, MEDIA])
    application.rollback()
    assert value(application, COUNT) == 0
    assert value(application, "select count(*) from social.content_variants") == 0


def test_every_variant_of_a_bulk_insert_has_its_event(application: psycopg.Connection) -> None:
    """An import that knows nothing of events can't forget them."""
    application.execute(
        "with i as (insert into social.content_items default values returning id) "
        "insert into social.content_variants (content_item_id, account_id, media_type, media_url, status) "
        "select i.id, a.id, 'image', %s || n, case when n %% 2 = 0 then 'approved' else 'draft' end "
        "from i, social.accounts as a, generate_series(1, 100) as n",
        [MEDIA],
    )
    missing = value(
        application,
        "select count(*) from social.content_variants as v where v.status = 'approved' "
        "and not exists (select from outbox.events as e where e.payload ->> 'variant_id' = v.id::text)",
    )
    assert missing == 0
    assert value(application, COUNT) == 50


def test_an_account_is_named_by_its_id_too(application: psycopg.Connection) -> None:
    """Our id of an account leads to the same key as the platform's."""
    application.execute("select social.create_variant((select id::text from social.accounts), %s)", [MEDIA])
    assert value(application, "select key from outbox.events") == ACCOUNT


def test_an_unknown_account_is_refused(application: psycopg.Connection) -> None:
    """The error has a code of its own and says what was expected."""
    with pytest.raises(psycopg.DatabaseError, match=r"account facebook:1 does not exist: expected") as raised:
        application.execute(CREATE, ["facebook:1", MEDIA])
    assert raised.value.sqlstate == "OB005"


def test_a_variant_joins_the_content_item_that_is_given(application: psycopg.Connection) -> None:
    """Variants of one item share it; without one a new item gets the title."""
    application.execute("select social.create_variant(%s, %s, title => 'Summer')", [ACCOUNT, MEDIA])
    application.execute(
        "select social.create_variant(%s, %s, content_item_id => (select id from social.content_items))",
        [ACCOUNT, MEDIA],
    )
    assert application.execute("select title from social.content_items").fetchall() == [("Summer",)]


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("a_media_url_is_http", "select social.create_variant(%s, 'ftp://media.example/1.jpg')"),
        ("a_variant_is_an_image_or_a_video", "select social.create_variant(%s, 'https://m.example', 'text')"),
        ("a_variant_is_placed_as_a_story", "select social.create_variant(%s, 'https://m.example', 'image', 'feed')"),
    ],
)
def test_a_variant_that_breaks_a_rule_is_refused(
    application: psycopg.Connection, name: str, statement: LiteralString
) -> None:
    """Each rule of a variant refuses, by name, what breaks it."""
    with pytest.raises(errors.CheckViolation) as raised:
        application.execute(statement, [ACCOUNT])
    assert raised.value.diag.constraint_name == name


def test_an_emitter_creates_variants(application: psycopg.Connection) -> None:
    """The emitter's role needs no grant on the tables of the content."""
    application.execute("set role outbox_emitter")
    application.execute(CREATE, [ACCOUNT, MEDIA])
    application.execute("reset role")
    assert value(application, COUNT) == 1
