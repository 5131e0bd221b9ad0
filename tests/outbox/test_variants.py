"""No way of approving a variant forgets its event, and none makes two."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg import errors, sql

ACCOUNT = "instagram:17841400000000000"
MEDIA = "https://media.example/1.jpg"
PUBLISH_AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
CREATE: LiteralString = "select social.create_variant(%s, %s)"
CREATE_DRAFT: LiteralString = "select social.create_variant(%s, %s, approved => false)"
PAGE = "facebook:981931321668013"
ADD_ACCOUNT: LiteralString = (
    "insert into social.variant_accounts (variant_id, account_id) "
    "values (%s, (select id from social.accounts where platform = %s))"
)
MANY_ACCOUNTS: LiteralString = """
insert into social.accounts (platform, remote_id, name, token_ciphertext)
select 'facebook', n, 'Page', '\\x00' from generate_series(1, 20000) as n
"""
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


def value(connection: psycopg.Connection, query: LiteralString | sql.Composed, arguments: Any = None) -> Any:
    """The one value of a query."""
    [(found,)] = connection.execute(query, arguments).fetchall()
    return found


def add_page(connection: psycopg.Connection, remote_id: str = "981931321668013") -> None:
    """Add a further account."""
    connection.execute(
        "insert into social.accounts (platform, remote_id, name, token_ciphertext) "
        "values ('facebook', %s, 'Page', '\\x00')",
        [remote_id],
    )


def test_a_variant_that_is_created_approved_has_its_event(application: psycopg.Connection) -> None:
    """The event names the variant and its account, and cannot be emitted twice."""
    variant: UUID = value(application, CREATE, [ACCOUNT, MEDIA])
    account = value(application, "select id::text from social.accounts")
    [row] = application.execute("select type, key, dedupe_key, payload from outbox.events").fetchall()
    assert row[:3] == ("variant.created", ACCOUNT, f"variant:{variant}:{account}")
    assert (row[3]["variant_id"], row[3]["account_id"]) == (str(variant), account)


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


def test_another_placement_is_no_second_post(application: psycopg.Connection) -> None:
    """What still waits is published as what the variant is by then: another event would publish it twice."""
    application.execute(CREATE, [ACCOUNT, MEDIA])
    application.execute("update social.content_variants set status = 'draft', placement = 'feed'")
    application.execute("update social.content_variants set status = 'approved'")
    assert value(application, COUNT) == 1


def test_an_account_that_becomes_a_further_one_gets_no_second_post(application: psycopg.Connection) -> None:
    """Whichever is the first: each account has one event, and the one that is new has its own at once."""
    add_page(application)
    variant = value(application, CREATE, [ACCOUNT, MEDIA])
    application.execute(
        "update social.content_variants set account_id = (select id from social.accounts where platform = 'facebook')"
    )
    application.execute(ADD_ACCOUNT, [variant, "instagram"])
    assert application.execute("select key from outbox.events order by id").fetchall() == [(ACCOUNT,), (PAGE,)]


def end(connection: psycopg.Connection, event_id: int, outcome: str) -> None:
    """Write the receipt of an event."""
    connection.execute(
        "insert into outbox.receipts (event_id, outcome, attempts, deferrals, relay_id) values (%s, %s, 0, 0, 1)",
        [event_id, outcome],
    )


@pytest.mark.parametrize("outcome", ["dead", "expired", "cancelled"])
def test_an_approval_after_the_event_has_ended_emits_anew(application: psycopg.Connection, outcome: str) -> None:
    """With the times of the variant as it is now, as a replay of the last one; once, until that one has ended."""
    variant = value(application, CREATE, [ACCOUNT, MEDIA])
    for last in (1, 2):
        end(application, last, outcome)
        for _ in range(2):
            application.execute("update social.content_variants set status = 'draft', publish_at = %s", [PUBLISH_AT])
            application.execute("update social.content_variants set status = 'approved'")
        rows = application.execute(
            "select replay_of, publish_at, key, payload ->> 'variant_id' from outbox.events where id > %s", [last]
        ).fetchall()
        assert rows == [(last, PUBLISH_AT, ACCOUNT, str(variant))]


def test_an_account_that_is_added_again_is_published_on(application: psycopg.Connection) -> None:
    """Its event ended while it was none of the variant's."""
    add_page(application)
    variant = value(application, CREATE, [ACCOUNT, MEDIA])
    application.execute(ADD_ACCOUNT, [variant, "facebook"])
    application.execute("delete from social.variant_accounts")
    end(application, 2, "dead")
    application.execute(ADD_ACCOUNT, [variant, "facebook"])
    assert application.execute("select replay_of, key from outbox.events where id > 2").fetchall() == [(2, PAGE)]


@pytest.mark.parametrize("outcome", ["published", "dead"])
def test_an_approval_repeats_nothing_that_may_be_live(application: psycopg.Connection, outcome: str) -> None:
    """Published, or dead with a call of which nobody knows: an operator looks before it is replayed."""
    application.execute(CREATE, [ACCOUNT, MEDIA])
    if outcome == "dead":
        application.execute(
            "insert into outbox.steps (event_id, position, name, state, detail, relay_id) "
            "values (1, 1, 'publish', 'intent', '{}', 1)"
        )
    end(application, 1, outcome)
    application.execute("update social.content_variants set status = 'draft'")
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


@pytest.mark.parametrize(
    "name", ["", "facebook", "facebook:", "facebook:9:7", ":9", "9", "00000000-0000-0000-0000-00000000000g"]
)
def test_only_a_whole_name_of_an_account_is_one(application: psycopg.Connection, name: str) -> None:
    """A part of it names none."""
    add_page(application, "9")
    with pytest.raises(psycopg.DatabaseError, match=rf"account {name} does not exist"):
        application.execute(CREATE, [name, MEDIA])


@pytest.mark.parametrize("column", ["id::text", "platform || ':' || remote_id"])
def test_an_account_is_found_among_many_without_a_look_at_the_others(
    application: psycopg.Connection, column: LiteralString
) -> None:
    """By its id and by the platform's."""
    application.execute(MANY_ACCOUNTS)
    name = value(
        application, sql.SQL("select {} from social.accounts where remote_id = '20000'").format(sql.SQL(column))
    )
    application.execute(CREATE, [name, MEDIA])  # its plans are made
    [explained] = value(application, f"explain (analyze, buffers, format json) {CREATE}", [name, MEDIA])
    assert explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"] < 150


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
        (
            "a_placement_is_one_of_its_platform",
            "select social.create_variant(%s, 'https://m.example', 'image', 'banner')",
        ),
        (
            "a_placement_is_one_of_its_platform",
            "select social.create_variant(%s, 'https://m.example', placement => 'photo')",
        ),
        (
            "a_placement_shows_media_of_its_kinds",
            "select social.create_variant(%s, 'https://m.example', 'video', 'feed')",
        ),
        (
            "a_placement_shows_media_of_its_kinds",
            "select social.create_variant(%s, 'https://m.example', 'image', 'reel')",
        ),
        ("a_placement_shows_as_many_media_as_it_can", "select social.create_variant(%s)"),
        ("a_medium_has_a_type_and_a_url", "select social.create_variant(%s, media_type => 'image')"),
        (
            "a_variant_has_what_its_placement_takes",
            "select social.create_variant(%s, 'https://m.example', caption => 'Ripe')",
        ),
        (
            "a_variant_has_what_its_placement_takes",
            "select social.create_variant(%s, 'https://m.example', link => 'https://m.example')",
        ),
        ("a_placement_shows_as_many_media_as_it_can", "select social.create_variant(%s, placement => 'carousel')"),
        (
            "a_placement_shows_as_many_media_as_it_can",
            """select social.create_variant(%s, placement => 'carousel',
               media => '[{"kind": "image", "url": "https://m.example"}]')""",
        ),
        (
            "a_placement_shows_as_many_media_as_it_can",
            """select social.create_variant(%s, 'https://m.example', placement => 'carousel', media =>
               '[{"kind": "image", "url": "https://m.example"}, {"kind": "image", "url": "https://m.example"}]')""",
        ),
        (
            "a_listed_medium_has_a_kind_and_an_http_url",
            """select social.create_variant(%s, placement => 'carousel',
               media => '[{"kind": "image", "url": "https://m.example"}, {"url": "https://m.example"}]')""",
        ),
        (
            "a_listed_medium_has_a_kind_and_an_http_url",
            """select social.create_variant(%s, placement => 'carousel', media =>
               '[[{"kind": "image", "url": "https://m.example"}], [{"kind": "image", "url": "https://m.example"}]]')""",
        ),
        (
            "a_listed_medium_has_a_kind_and_an_http_url",
            """select social.create_variant(%s, placement => 'carousel', media =>
               '[{"kind": "image", "url": ["https://m.example"]}, {"kind": "image", "url": "https://m.example"}]')""",
        ),
        (
            "a_listed_medium_has_a_kind_and_an_http_url",
            """select social.create_variant(%s, placement => 'carousel', media =>
               '[{"kind": ["image"], "url": "https://m.example"}, {"kind": "image", "url": "https://m.example"}]')""",
        ),
        (
            "a_variant_has_what_its_placement_takes",
            "select social.create_variant(%s, 'https://m.example', alt_text => 'Tomatoes')",
        ),
        (
            "user_tags_name_users",
            """select social.create_variant(%s, 'https://m.example', user_tags => '[{"x": 0.5}]')""",
        ),
        (
            "user_tags_name_users",
            """select social.create_variant(%s, 'https://m.example', user_tags => '[[{"username": "anna"}]]')""",
        ),
        (
            "at_most_3_collaborate",
            "select social.create_variant(%s, 'https://m.example', placement => 'feed', collaborators => '{a,b,c,d}')",
        ),
        (
            "a_variant_has_what_its_placement_takes",
            "select social.create_variant(%s, 'https://m.example', location_id => '7')",
        ),
        (
            "a_variant_has_what_its_placement_takes",
            "select social.create_variant(%s, 'https://m.example', cover_url => 'https://m.example')",
        ),
        (
            "a_medium_is_uploaded_where_that_can_be",
            "select social.create_variant(%s, 'https://m.example', upload => true)",
        ),
        (
            "a_cover_is_an_http_url_or_an_offset",
            "select social.create_variant(%s, 'https://m.example', placement => 'reel', thumb_offset_ms => -1)",
        ),
        (
            "a_variant_has_what_its_placement_takes",
            "select social.create_variant(%s, 'https://m.example', video_title => 'Tomatoes')",
        ),
    ],
)
def test_a_variant_that_breaks_a_rule_is_refused(
    application: psycopg.Connection, name: str, statement: LiteralString
) -> None:
    """Each rule of a variant refuses, by name, what breaks it."""
    with pytest.raises(errors.CheckViolation) as raised:
        application.execute(statement, [ACCOUNT])
    assert raised.value.diag.constraint_name == name


INSERT: LiteralString = """
insert into social.content_variants (content_item_id, account_id, placement, media_type, media_url, caption, upload)
select i.id, a.id, %(placement)s, %(media_type)s, %(media_url)s, %(caption)s, %(upload)s
from social.accounts as a, social.content_items as i
where a.platform = %(platform)s
returning id
"""
UPDATE: LiteralString = "update social.content_variants set caption = caption where id = %(id)s"
USUAL: LiteralString = "set session_replication_role = origin"
NO_TRIGGERS: LiteralString = "set session_replication_role = replica"


def is_refused(connection: psycopg.Connection, statement: LiteralString, arguments: dict[str, Any]) -> bool:
    """Whether it breaks a rule; nothing is left of it."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement, arguments)
    except errors.CheckViolation:
        return True
    return False


def test_an_insert_is_held_to_the_rules_that_an_update_is_held_to(application: psycopg.Connection) -> None:
    """The short way that a usual variant is let through by lets nothing else through."""
    add_page(application)
    application.execute("insert into social.content_items default values")
    placements = application.execute("select distinct placement from social.placements").fetchall()
    variants: list[dict[str, Any]] = [
        {
            "platform": platform,
            "placement": placement,
            "media_type": media_type,
            "media_url": media_type and MEDIA,
            "caption": caption,
            "upload": upload,
        }
        for platform, (placement,), media_type, caption, upload in product(
            ["instagram", "facebook"], placements, ["image", "video", None], [None, "", "Ripe"], [False, True]
        )
    ]
    by_insert = [is_refused(application, INSERT, variant) for variant in variants]
    application.execute(NO_TRIGGERS)
    stored = [{"id": value(application, INSERT, variant)} for variant in variants]
    application.execute(USUAL)
    by_update = [is_refused(application, UPDATE, variant) for variant in stored]
    assert [v for v, one, other in zip(variants, by_insert, by_update, strict=True) if one != other] == []
    assert set(by_insert) == {True, False}


def test_an_account_on_a_post_is_a_page(application: psycopg.Connection) -> None:
    """A post needs a text or a link, and nothing else."""
    add_page(application)
    with pytest.raises(errors.CheckViolation) as raised, application.transaction():
        application.execute("select social.create_variant(%s, placement => 'post')", [PAGE])
    assert raised.value.diag.constraint_name == "a_post_has_a_text_or_a_link"
    application.execute("select social.create_variant(%s, placement => 'post', caption => 'Ripe')", [PAGE])
    assert value(application, COUNT) == 1


def test_a_variant_for_several_accounts_has_an_event_for_each(application: psycopg.Connection) -> None:
    """Each on its account's key, so that one account's trouble is not another's; an account named twice counts once."""
    add_page(application)
    variant = value(
        application,
        "select social.create_variant(%s, %s, accounts => array[%s, %s], placement => 'reel')",
        [ACCOUNT, MEDIA, PAGE, ACCOUNT],
    )
    keys = application.execute("select key from outbox.events order by id").fetchall()
    assert keys == [(ACCOUNT,), (PAGE,)]
    jobs = application.execute("select variant_id, platform, account from social.publish_jobs order by id").fetchall()
    assert jobs == [(variant, *ACCOUNT.split(":")), (variant, *PAGE.split(":"))]


def test_a_draft_for_several_accounts_emits_for_each_when_it_is_approved(application: psycopg.Connection) -> None:
    """Once for each, however often it is approved."""
    add_page(application)
    variant = value(
        application,
        "select social.create_variant(null, %s, accounts => array[%s, %s], approved => false)",
        [MEDIA, ACCOUNT, PAGE],
    )
    assert value(application, COUNT) == 0
    for status in ("approved", "draft", "approved"):
        application.execute("update social.content_variants set status = %s where id = %s", [status, variant])
    assert value(application, COUNT) == 2


def test_an_account_that_is_added_later_has_its_event(application: psycopg.Connection) -> None:
    """At once where the variant is approved; an account that it is for already is refused."""
    add_page(application)
    variant = value(application, CREATE, [ACCOUNT, MEDIA])
    application.execute(ADD_ACCOUNT, [variant, "facebook"])
    assert value(application, "select max(key) from outbox.events where id > 1") == PAGE
    with pytest.raises(errors.CheckViolation) as raised, application.transaction():
        application.execute(ADD_ACCOUNT, [variant, "instagram"])
    assert raised.value.diag.constraint_name == "a_variant_names_an_account_once"
    with pytest.raises(errors.CheckViolation) as raised, application.transaction():
        application.execute(
            "update social.content_variants set account_id = (select account_id from social.variant_accounts)"
        )
    assert raised.value.diag.constraint_name == "a_variant_names_an_account_once"


def test_a_further_account_without_the_placement_is_refused(application: psycopg.Connection) -> None:
    """A Page has no carousel: the sentence says what it has, and nothing is created."""
    add_page(application)
    expected = r"expected one of photo, photos, post, reel, story, video for a feed of facebook"
    with pytest.raises(errors.CheckViolation, match=expected), application.transaction():
        application.execute(
            "select social.create_variant(%s, %s, placement => 'feed', accounts => array[%s])", [ACCOUNT, MEDIA, PAGE]
        )
    assert value(application, "select count(*) from social.content_variants") == 0


def test_a_variant_without_an_account_is_refused(application: psycopg.Connection) -> None:
    """Neither account nor accounts."""
    with pytest.raises(psycopg.DatabaseError, match="expected an account") as raised:
        application.execute("select social.create_variant(media_url => %s)", [MEDIA])
    assert raised.value.sqlstate == "OB005"


def test_an_emitter_creates_variants(application: psycopg.Connection) -> None:
    """The emitter's role needs no grant on the tables of the content."""
    application.execute("set role outbox_emitter")
    application.execute(CREATE, [ACCOUNT, MEDIA])
    application.execute("reset role")
    assert value(application, COUNT) == 1


APPROVE_BY_TRIGGER: LiteralString = """
create function social.approve() returns trigger language plpgsql as $$
begin
  new.status := 'approved';
  return new;
end
$$;
create trigger approve before update on social.content_variants for each row execute function social.approve();
"""
SET_TOKEN_BY_TRIGGER: LiteralString = """
create function social.set_token() returns trigger language plpgsql as $$
begin
  new.token_ciphertext := '\\x01';
  return new;
end
$$;
create trigger set_token before update on social.accounts for each row execute function social.set_token();
"""


def test_an_approval_by_an_applications_own_trigger_has_its_event(application: psycopg.Connection) -> None:
    """The statement names no status; nor does one name the token that a trigger sets, and the audit tells of it."""
    application.execute(CREATE_DRAFT, [ACCOUNT, MEDIA])
    application.execute(APPROVE_BY_TRIGGER)
    application.execute("update social.content_variants set publish_at = %s", [PUBLISH_AT])
    assert value(application, COUNT) == 1
    application.execute(SET_TOKEN_BY_TRIGGER)
    application.execute("update social.accounts set name = 'Other'")
    told = application.execute("select detail ->> 'what' from outbox.operations order by id").fetchall()
    assert told == [("added",), ("token encrypted anew",)]


def test_an_account_that_takes_anothers_place_has_its_event(application: psycopg.Connection) -> None:
    """Where the variant is approved; other changes of the row emit nothing."""
    add_page(application)
    add_page(application, "7")
    variant = value(application, CREATE, [ACCOUNT, MEDIA])
    application.execute(
        "insert into social.variant_accounts (variant_id, account_id) "
        "select %s, id from social.accounts where remote_id = '981931321668013'",
        [variant],
    )
    application.execute("update social.variant_accounts set created_at = clock_timestamp()")
    assert value(application, COUNT) == 2
    application.execute(
        "update social.variant_accounts set account_id = (select id from social.accounts where remote_id = '7')"
    )
    assert application.execute("select key from outbox.events order by id offset 2").fetchall() == [("facebook:7",)]


def test_an_approval_with_an_older_snapshot_forgets_no_account(application: psycopg.Connection, database: str) -> None:
    """It is refused, to be tried again: it does not see the account that the draft got meanwhile."""
    add_page(application)
    variant = value(application, CREATE_DRAFT, [ACCOUNT, MEDIA])
    application.commit()
    approve: LiteralString = "update social.content_variants set status = 'approved'"
    with psycopg.connect(database) as approving:
        approving.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        assert value(approving, COUNT) == 0
        application.execute(ADD_ACCOUNT, [variant, "facebook"])
        application.commit()
        with pytest.raises(errors.SerializationFailure):
            approving.execute(approve)
        approving.rollback()
        approving.execute(approve)
    assert value(application, COUNT) == 2


def test_two_who_add_accounts_to_one_draft_wait_for_each_other(application: psycopg.Connection, database: str) -> None:
    """And neither is ended for a deadlock."""
    add_page(application)
    add_page(application, "7")
    variant = value(application, CREATE_DRAFT, [ACCOUNT, MEDIA])
    application.commit()
    add: LiteralString = (
        "insert into social.variant_accounts (variant_id, account_id) "
        "select %s, id from social.accounts where remote_id = %s"
    )
    application.execute(add, [variant, "7"])
    with psycopg.connect(database) as other:
        other.execute("set lock_timeout = '50ms'")
        with pytest.raises(errors.LockNotAvailable):
            other.execute(add, [variant, "981931321668013"])
        other.rollback()
        application.commit()
        other.execute(add, [variant, "981931321668013"])
    application.execute("update social.content_variants set status = 'approved'")
    assert value(application, COUNT) == 3
