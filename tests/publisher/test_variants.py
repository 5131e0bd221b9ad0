"""The lookup of a variant by primary key: what a miss records, and how patient it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import anyio
import pytest
from prometheus_client import CollectorRegistry
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool
from pydantic import SecretStr

from outbox.handler import Runtime
from outbox.outcome import Dead, Defer, Expired, Hold, Outcome, Published, Reason
from publisher.handler import open_handler_with
from publisher.refusal import PUT_OFF_SECONDS_MAX
from publisher.tokens import KeyRing, generate_key
from publisher.variants import LOOK_UP, Lookup, VariantCreated, Variants
from tests.publisher.stage import Stage

pytestmark = pytest.mark.anyio


async def test_a_missing_variant_is_waited_for_and_then_given_up(stage: Stage) -> None:
    """Three longer and longer waits, then dead as variant_missing; no attempt is burned."""
    event = await stage.approve("instagram image")
    await stage.execute("delete from social.content_variants")
    play = await stage.play(event)
    waits = [outcome for outcome in play.outcomes if isinstance(outcome, Defer)]
    assert [wait.reason for wait in waits] == [Reason.MISSING] * 3
    assert all(0.01 * 2**misses <= wait.delay_seconds <= 0.01 * 2**misses * 1.25 for misses, wait in enumerate(waits))
    assert isinstance(play.end, Dead)
    assert play.end.reason == "variant_missing"
    assert play.end.context is not None  # the last miss is as telling as the first
    assert stage.metric("outbox_variant_lookups_empty_total") == 4


async def test_a_miss_records_what_the_database_was_like(stage: Stage) -> None:
    """Replica or primary, isolation, roles, row security, snapshot, server, and the ages: the incident's checklist."""
    event = await stage.approve("instagram image")
    await stage.execute("delete from social.content_variants")
    outcome = await stage.dispatch(event)
    assert isinstance(outcome, Defer)
    context = outcome.context
    assert context is not None
    assert context["missing"] == "variant"
    assert context["is_in_recovery"] is False
    assert context["transaction_isolation"] == "read committed"
    assert context["current_role"] == context["session_role"] == conninfo_to_dict(stage.dsn)["user"]
    assert context["variants_row_security"] is False
    assert context["snapshot"].count(":") == 2
    assert context["xact_id"] is None
    assert context["server_port"] > 0
    assert 0 <= context["event_to_read_seconds"] < 60
    assert 0 <= context["variant_to_event_seconds"] < 60


async def test_who_asks_while_a_statement_is_under_way_shares_the_next_one(stage: Stage) -> None:
    """Each is given its own variant, or its own miss; thirty look-ups are two statements."""
    events = [await stage.approve("instagram image") for _ in range(3)]
    wanted = [VariantCreated.model_validate(event.payload) for event in events] * 9
    wanted += [VariantCreated(variant_id=uuid4()) for _ in range(3)]
    found: dict[int, Lookup] = {}
    variants = Variants(stage.connections)

    async def look_up(place: int) -> None:
        found[place] = await variants.look_up(wanted[place])

    before = stage.connections.get_stats()["requests_num"]
    async with anyio.create_task_group() as group:
        for place in range(len(wanted)):
            group.start_soon(look_up, place)
    assert stage.connections.get_stats()["requests_num"] - before == 2
    for place, each in enumerate(wanted):
        variant = found[place].variant
        assert (variant.id if variant is not None else None) == (each.variant_id if place < 27 else None)
        assert (found[place].context is None) == (place < 27)


async def test_one_that_breaks_off_leaves_the_others_to_be_read(stage: Stage) -> None:
    """The one that reads for all is cancelled: another one reads."""
    wanted = VariantCreated.model_validate((await stage.approve("instagram image")).payload)
    variants, found = Variants(stage.connections), list[Lookup]()

    async def look_up(scope: anyio.CancelScope) -> None:
        with scope:
            found.append(await variants.look_up(wanted))

    async with anyio.create_task_group() as group:
        first = anyio.CancelScope()
        for scope in (first, anyio.CancelScope(), anyio.CancelScope()):
            group.start_soon(look_up, scope)
        group.start_soon(_cancel, first)
    assert [lookup.variant.id for lookup in found if lookup.variant is not None] == [wanted.variant_id] * 2


NESTED = (
    '[[{"kind": "image", "url": "https://media.test/1.jpg"}], [{"kind": "image", "url": "https://media.test/2.jpg"}]]'
)
LISTED = (
    NESTED.replace("[{", "{").replace("}]", "}").replace('"https://media.test/1.jpg"', '["https://media.test/1.jpg"]')
)


UPLOADED = '[{"kind": "image", "url": "https://media.test/1.jpg", "upload": "no"}]'


@pytest.mark.parametrize("media", [NESTED, LISTED, f"{UPLOADED[:-1]}, {UPLOADED[1:]}"])
async def test_a_variant_whose_media_can_not_be_read_is_dead_and_harms_no_other(stage: Stage, media: str) -> None:
    """It was there before the table's constraint saw it, and is looked up by the same statement as two others."""
    await stage.execute(
        "alter table social.content_variants drop constraint a_listed_medium_has_a_kind_and_an_http_url"
    )
    events = [await stage.approve("instagram image") for _ in range(3)]
    events.insert(2, await stage.create("instagram", placement="carousel", media=media))
    ends: dict[int, Outcome] = {}

    async def play(place: int) -> None:
        ends[place] = (await stage.play(events[place])).end

    async with anyio.create_task_group() as group:
        for place in range(len(events)):
            group.start_soon(play, place)
    unreadable = ends.pop(2)
    assert isinstance(unreadable, Dead)
    assert unreadable.reason == "media_unsuitable"
    assert [type(end) for end in ends.values()] == [Published] * 3
    assert await stage.rows("select from outbox.attempts") == []


async def test_variants_are_looked_up_by_their_primary_keys(stage: Stage) -> None:
    """Whatever the planner takes the tables to hold."""
    arguments = {"variant_ids": [uuid4()], "account_ids": [None]}
    async with stage.connections.connection() as connection:
        rows = await (await connection.execute(f"explain {LOOK_UP}".encode(), arguments)).fetchall()
    plan = "\n".join(row[0] for row in rows)
    assert "Index Scan using content_variants_pkey" in plan
    assert "Seq Scan on content_variants" not in plan


async def test_a_variant_that_appears_meanwhile_is_published(stage: Stage) -> None:
    """A miss is not the end: the next lookup finds it."""
    event = await stage.approve("instagram image")
    await stage.execute("alter table social.content_variants rename to hidden_variants")
    await stage.execute("create table social.content_variants (like social.hidden_variants)")
    await stage.dispatch(event)
    await stage.execute("drop table social.content_variants")
    await stage.execute("alter table social.hidden_variants rename to content_variants")
    assert isinstance((await stage.play(event)).end, Published)


async def test_row_security_that_hides_a_variant_is_named(stage: Stage) -> None:
    """A role that a policy keeps from seeing the row records so."""
    event = await stage.approve("instagram image")
    await stage.execute("alter table social.content_variants enable row level security")
    await stage.execute("grant outbox_relay to current_user")
    async with (
        AsyncConnectionPool[AsyncConnection[TupleRow]](
            stage.dsn,
            min_size=1,
            max_size=1,
            open=False,
            kwargs={"autocommit": True, "options": "-c role=outbox_relay"},
        ) as careful,
        open_handler_with(Runtime(careful, CollectorRegistry()), stage.settings) as handler,
    ):
        stage.handler = handler
        outcome = await stage.dispatch(event)
    assert isinstance(outcome, Defer)
    assert outcome.context is not None
    assert outcome.context["variants_row_security"] is True
    assert outcome.context["current_role"] == "outbox_relay"
    assert outcome.context["session_role"] == conninfo_to_dict(stage.dsn)["user"]
    assert outcome.error is not None
    assert "row security may hide it" in outcome.error


async def test_the_relay_role_may_do_all_that_publishing_needs(stage: Stage) -> None:
    """Every query of the publisher is granted to outbox_relay."""
    event = await stage.approve("instagram image")
    await stage.graph.fault("publish_container", "apply_then_drop")
    async with (
        AsyncConnectionPool[AsyncConnection[TupleRow]](
            stage.dsn,
            min_size=1,
            max_size=1,
            open=False,
            kwargs={"autocommit": True, "options": "-c role=outbox_relay"},
        ) as careful,
        open_handler_with(Runtime(careful, CollectorRegistry()), stage.settings) as handler,
    ):
        stage.handler = handler
        assert isinstance((await stage.play(event)).end, Published)
        await stage.execute("delete from social.content_variants")
        assert isinstance(await stage.dispatch(await stage.event(event.id)), Published)


async def test_a_payload_without_a_variant_is_dead(stage: Stage) -> None:
    """One sentence says what was expected, without the value."""
    event = (await stage.approve("instagram image"))._replace(payload={"variant_id": "story one"})
    end = await stage.dispatch(event)
    assert isinstance(end, Dead)
    assert end.reason == "invalid_payload"
    assert "variant_id" in end.error
    assert "story one" not in end.error


async def test_an_unknown_variant_is_missing(stage: Stage) -> None:
    """An id that never existed is waited for like one that is not visible yet."""
    event = (await stage.approve("instagram image"))._replace(payload={"variant_id": str(uuid4())})
    outcome = await stage.dispatch(event)
    assert isinstance(outcome, Defer)
    assert outcome.reason is Reason.MISSING


async def test_a_variant_that_is_a_draft_again_is_dead(stage: Stage) -> None:
    """A person took the approval back: nothing is published, and replaying is the way back."""
    event = await stage.approve("instagram image")
    await stage.execute("update social.content_variants set status = 'draft'")
    end = (await stage.play(event)).end
    assert isinstance(end, Dead)
    assert end.reason == "not_approved"
    assert await stage.live_count() == 0


async def test_each_account_of_a_variant_has_its_own_fate(stage: Stage) -> None:
    """One account's trouble is not another's: its hold stops no other, and each has its post once."""
    instagram, page = await stage.owner("instagram"), await stage.owner("facebook")
    await stage.execute(
        "select social.create_variant(media_url => %s, accounts => array[%s, %s])",
        f"{stage.media_url}/story.jpg",
        f"instagram:{instagram.id}",
        f"facebook:{page.id}",
    )
    first, second = [await stage.event(row[0]) for row in await stage.rows("select id from outbox.events order by id")]
    assert (first.key, second.key) == (f"instagram:{instagram.id}", f"facebook:{page.id}")
    await stage.graph.control("PATCH", f"accounts/{instagram.id}", {"token_state": "expired"})
    assert isinstance((await stage.play(first)).end, Hold)
    assert isinstance((await stage.play(second)).end, Published)
    await stage.graph.control("PATCH", f"accounts/{instagram.id}", {"token_state": "valid"})
    assert isinstance((await stage.play(first)).end, Published)
    assert [await stage.graph.live_count(f"/story.jpg&account={owner.id}") for owner in (instagram, page)] == [1, 1]


async def test_an_account_that_was_taken_off_a_variant_is_dead(stage: Stage) -> None:
    """Nobody wants it there any more; its other account goes on."""
    instagram, page = await stage.owner("instagram"), await stage.owner("facebook")
    await stage.execute(
        "select social.create_variant(%s, %s, accounts => array[%s])",
        f"instagram:{instagram.id}",
        f"{stage.media_url}/story.jpg",
        f"facebook:{page.id}",
    )
    await stage.execute("delete from social.variant_accounts")
    end = (await stage.play(await stage.event(2))).end
    assert isinstance(end, Dead)
    assert end.reason == "not_for_account"
    assert isinstance((await stage.play(await stage.event(1))).end, Published)


async def test_an_event_under_another_key_is_dead(stage: Stage) -> None:
    """One publish in flight an account is what makes reconciling sound: the key has to be the account's."""
    event = (await stage.approve("instagram image"))._replace(key="instagram:1")
    end = await stage.dispatch(event)
    assert isinstance(end, Dead)
    assert end.reason == "wrong_key"


async def test_a_changed_variant_gets_a_new_container(stage: Stage) -> None:
    """What is published is the variant as it stands, not a container of what it was."""
    stage.files["other.jpg"] = stage.files["story.jpg"]
    await stage.graph.fault("list_stories", "error", code=17)
    event = await stage.approve("instagram image")
    assert isinstance((await stage.play(event)).end, Hold)
    await stage.execute("update social.content_variants set media_url = replace(media_url, 'story.jpg', 'other.jpg')")
    assert isinstance((await stage.play(event)).end, Published)
    assert await stage.graph.live_count("other.jpg") == 1
    assert await stage.live_count() == 1


async def test_a_variant_that_was_put_off_is_not_published_before(stage: Stage) -> None:
    """Its event keeps the time at which it was emitted; what people see of the variant is what counts."""
    event = await stage.approve("instagram image")
    await stage.execute("update social.content_variants set publish_at = clock_timestamp() + interval '3 hours'")
    outcome = await stage.dispatch(event)
    assert isinstance(outcome, Defer)
    assert outcome.delay_seconds == PUT_OFF_SECONDS_MAX
    assert await stage.trail(event) == []
    await stage.execute("update social.content_variants set publish_at = clock_timestamp() - interval '1 minute'")
    assert isinstance((await stage.play(event)).end, Published)
    assert await stage.live_count() == 1


@pytest.mark.parametrize(("has_deadline", "is_replay"), [(True, False), (False, False), (True, True), (False, True)])
async def test_a_deadline_that_a_variant_has_got_since_holds(stage: Stage, has_deadline: bool, is_replay: bool) -> None:
    """But for a replay without one: whoever replays a variant that has expired wants it published."""
    event = await stage.approve("instagram image")
    if has_deadline:
        event = event._replace(expires_at=datetime.now(UTC) + timedelta(hours=1))
    if is_replay:
        event = event._replace(replay_of=event.id)
    await stage.execute("update social.content_variants set expires_at = clock_timestamp() - interval '1 minute'")
    end = (await stage.play(event)).end
    is_published = is_replay and not has_deadline
    assert isinstance(end, Published if is_published else Expired)
    assert await stage.live_count() == is_published


async def test_a_token_of_another_key_holds_and_names_neither(stage: Stage) -> None:
    """The hold ends by itself, since the key ring is mended without a word to each account."""
    event = await stage.approve("instagram image")
    other = KeyRing(generate_key())
    owner = await stage.owner("instagram")
    await stage.execute(
        "update social.accounts set token_ciphertext = %s",
        other.encrypt(SecretStr("EAAsecret")),
    )
    end = (await stage.play(event)).end
    assert isinstance(end, Hold)
    assert (end.delay_seconds, end.reason) == (600.0, "token")
    assert "PUBLISHER_TOKEN_KEYS" in end.error
    assert "EAAsecret" not in end.error
    assert owner.token not in end.error


async def test_a_published_story_stays_published_when_its_token_is_locked(stage: Stage) -> None:
    """Only the permalink needs the token."""
    event = await stage.approve("instagram image")
    await stage.play(event)
    await stage.execute("update social.accounts set token_ciphertext = 'damaged'")
    end = await stage.dispatch(event)
    assert isinstance(end, Published)
    assert end.result["permalink"] is None


async def _cancel(scope: anyio.CancelScope) -> None:
    scope.cancel()
