"""Tokens: rotated, inspected, refreshed, and what is told of them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from prometheus_client import CollectorRegistry
from psycopg import AsyncConnection
from pydantic import SecretStr

from outbox.event import Event
from outbox.outcome import Defer, Hold, Outcome, Published
from publisher.accounts import add_account, rotate_keys, show_account
from publisher.errors import AccountInvalid
from publisher.gauges import Gauges
from publisher.graph import open_graph
from publisher.handler import VariantHandler
from publisher.inspection import inspect_token
from publisher.metrics import PublisherMetrics
from publisher.refresher import Refresher
from publisher.settings import ProofForm
from publisher.tokens import KeyRing, generate_key
from tests.publisher.stage import Stage
from tests.sandbox.client import Owner

pytestmark = pytest.mark.anyio
CIPHERTEXT = "select token_ciphertext from social.accounts order by remote_id"
AUDIT = "select reason, detail ->> 'what' from outbox.operations where operation = 'account' order by id"
HOLD = """
insert into outbox.holds (scope, key, held_until, reason, held_by) values ('key', %s, 'infinity', %s, 'relay')
"""
DUE = "update social.accounts set token_refresh_at = clock_timestamp() - interval '1 second'"
DAY = 86_400
APP_SECRET = "a secret of the app"


async def add(stage: Stage, owner: Owner, platform: str = "instagram", expires_at: datetime | None = None) -> str:
    async with stage.connections.connection() as connection:
        account, _ = await add_account(
            connection,
            stage.keys,
            platform=platform,
            remote_id=owner.id,
            name="greenhouse",
            token=SecretStr(owner.token),
            expires_at=expires_at,
        )
    return account.key


async def test_rotating_encrypts_what_is_not_yet(stage: Stage) -> None:
    """With the first key; a second time there is nothing left to do, and the old key may go."""
    await stage.owner("instagram")
    await stage.owner("facebook")
    new = generate_key()
    [old] = [stage.settings.token_keys]
    assert old is not None
    both = KeyRing(f"{new},{old.get_secret_value()}")
    before = await stage.rows(CIPHERTEXT)
    async with await AsyncConnection.connect(stage.dsn, autocommit=True) as connection:
        tried = await rotate_keys(connection, both, dry_run=True)
        assert await stage.rows(CIPHERTEXT) == before
        done = await rotate_keys(connection, both, reason="the old one left with dana")
        again = await rotate_keys(connection, both)
    assert len(done.renewed) == 2
    assert (done, again.renewed, again.kept_count) == (tried, [], 2)
    tokens = {KeyRing(new).decrypt(bytes(row[0])).get_secret_value() for row in await stage.rows(CIPHERTEXT)}
    assert tokens == {owner.token for owner in stage.owners.values()}
    assert (await stage.rows(AUDIT))[2:] == [("the old one left with dana", "token encrypted anew")] * 2


async def test_a_token_that_no_key_opens_is_named_and_the_others_are_rotated(stage: Stage) -> None:
    """It stays as it is."""
    await stage.owner("instagram")
    await stage.owner("facebook")
    foreign = KeyRing(generate_key()).encrypt(SecretStr("EAAother"))
    await stage.execute("update social.accounts set token_ciphertext = %s where platform = 'facebook'", foreign)
    old = stage.settings.token_keys
    assert old is not None
    async with await AsyncConnection.connect(stage.dsn, autocommit=True) as connection:
        done = await rotate_keys(connection, KeyRing(f"{generate_key()},{old.get_secret_value()}"))
    assert done.unreadable == [f"facebook:{stage.owners['facebook'].id}"]
    assert done.renewed == [f"instagram:{stage.owners['instagram'].id}"]


@pytest.mark.parametrize("platform", ["instagram", "facebook"])
@pytest.mark.parametrize("in_the_apps_name", [False, True])
@pytest.mark.parametrize("proof", list(ProofForm))
async def test_a_good_token_is_told_from_others(
    stage: Stage, platform: str, in_the_apps_name: bool, proof: ProofForm
) -> None:
    """In the app's name or with itself, under each form of the proof; a Page token does not expire."""
    await stage.graph.use(app_secret=APP_SECRET, require_proof=proof is not ProofForm.OFF)
    owner, other = await stage.graph.owner(platform), await stage.graph.owner(platform)
    secret = SecretStr(APP_SECRET) if in_the_apps_name or proof is not ProofForm.OFF else None
    settings = stage.settings.model_copy(
        update={"app_id": "645699291956344" if in_the_apps_name else None, "app_secret": secret, "proof": proof}
    )
    async with open_graph(settings, PublisherMetrics(CollectorRegistry())) as graph:

        async def inspect(remote_id: str, token: str) -> datetime | None:
            found = await inspect_token(graph, settings, platform=platform, remote_id=remote_id, token=SecretStr(token))
            return found.expires_at

        assert await inspect(owner.id, owner.token) is None
        with pytest.raises(AccountInvalid, match="for other accounts"):
            await inspect(owner.id, other.token)
        await stage.graph.control("PATCH", f"accounts/{owner.id}", {"token_state": "password_changed"})
        with pytest.raises(AccountInvalid, match=r"not valid any more|refuses it"):
            await inspect(owner.id, owner.token)


async def test_all_that_is_missing_is_named(stage: Stage) -> None:
    """A token of an Instagram account can't publish on a Page, for two reasons and more."""
    owner, page = await stage.graph.owner("instagram"), await stage.graph.owner("facebook")
    async with open_graph(stage.settings, PublisherMetrics(CollectorRegistry())) as graph:
        with pytest.raises(AccountInvalid) as caught:
            await inspect_token(
                graph, stage.settings, platform="facebook", remote_id=page.id, token=SecretStr(owner.token)
            )
    assert "it lacks the permission pages_manage_posts" in str(caught.value)
    assert owner.token not in str(caught.value)


async def test_an_unknown_token_is_refused_without_being_shown(stage: Stage) -> None:
    """In one sentence."""
    async with open_graph(stage.settings, PublisherMetrics(CollectorRegistry())) as graph:
        with pytest.raises(AccountInvalid) as caught:
            await inspect_token(
                graph, stage.settings, platform="facebook", remote_id="17", token=SecretStr("EAAunknown-token")
            )
    assert "EAAunknown" not in str(caught.value)


async def test_a_token_of_instagram_login_says_whose_it_is(stage: Stage) -> None:
    """At its own host; by the one id that is the same for every app."""
    owner, other = [await stage.graph.owner("instagram", login="instagram") for _ in range(2)]
    instagram_url = f"{stage.settings.graph_url}/graph.instagram.com"
    graph_url = f"{stage.settings.graph_url}"
    settings = stage.settings.model_copy(update={"graph_url": graph_url, "instagram_url": instagram_url})
    async with open_graph(settings, PublisherMetrics(CollectorRegistry())) as graph:
        found = await inspect_token(
            graph, settings, platform="instagram", remote_id=owner.id, token=SecretStr(owner.token)
        )
        assert found.expires_at is None
        with pytest.raises(AccountInvalid, match=f"of the account {other.id}"):
            await inspect_token(graph, settings, platform="instagram", remote_id=owner.id, token=SecretStr(other.token))
        me = await stage.graph.get("/graph.instagram.com/me", owner.token, fields="id,user_id")
        assert me.body["id"] != me.body["user_id"] == owner.id
        with pytest.raises(AccountInvalid, match=f"of the account {owner.id} .*the one to give"):
            await inspect_token(
                graph, settings, platform="instagram", remote_id=me.body["id"], token=SecretStr(owner.token)
            )
        with pytest.raises(AccountInvalid, match="publishes to no Page"):
            await inspect_token(graph, settings, platform="facebook", remote_id="17", token=SecretStr(owner.token))


async def test_a_token_of_instagram_login_publishes_and_is_refreshed(stage: Stage) -> None:
    """Once it is a day old; the new one is stored encrypted, and publishes."""
    owner = await stage.graph.owner("instagram", login="instagram")
    key = await add(stage, owner)
    stage.owners["instagram"] = owner
    assert isinstance((await stage.play(await stage.approve("instagram image"))).end, Published)
    assert isinstance(stage.handler, VariantHandler)
    refresher = Refresher(stage.connections, stage.handler.graph, stage.keys, stage.handler.metrics)
    assert await refresher.refresh_next() is False
    await stage.execute(DUE)
    await stage.graph.advance(DAY + 60)
    assert await refresher.refresh_next() is True
    assert await refresher.refresh_next() is False
    [(ciphertext,)] = await stage.rows(CIPHERTEXT)
    fresh = stage.keys.decrypt(bytes(ciphertext)).get_secret_value()
    assert fresh != owner.token
    async with stage.connections.connection() as connection:
        state = await show_account(connection, key)
    assert state.token_expires_at is not None
    assert state.token_refresh_at is not None
    now = datetime.now(UTC)
    assert timedelta(days=59) < state.token_expires_at - now < timedelta(days=61)
    assert timedelta(days=29) < state.token_refresh_at - now < timedelta(days=31)
    assert (await stage.rows(AUDIT))[-1] == (None, "token refreshed")
    assert isinstance((await stage.play(await stage.approve("instagram image"))).end, Published)
    assert stage.metric("outbox_token_refreshes_total", result="refreshed") == 1


async def test_a_refresh_that_fails_leaves_the_token_and_is_tried_in_an_hour(stage: Stage) -> None:
    """Too young, for one."""
    owner = await stage.graph.owner("instagram", login="instagram")
    await add(stage, owner)
    await stage.execute(DUE)
    assert isinstance(stage.handler, VariantHandler)
    refresher = Refresher(stage.connections, stage.handler.graph, stage.keys, stage.handler.metrics)
    before = await stage.rows(CIPHERTEXT)
    assert await refresher.refresh_next() is True
    assert await refresher.refresh_next() is False
    assert await stage.rows(CIPHERTEXT) == before
    [(minutes,)] = await stage.rows(
        "select extract(epoch from token_refresh_at - clock_timestamp()) / 60 from social.accounts"
    )
    assert 50 < minutes <= 60
    assert stage.metric("outbox_token_refreshes_total", result="failed") == 1


async def test_a_token_that_a_person_sets_meanwhile_stays(stage: Stage) -> None:
    """The refreshed one is of the old one."""
    owner = await stage.graph.owner("instagram", login="instagram")
    await add(stage, owner)
    await stage.execute(DUE)
    await stage.graph.advance(DAY + 60)
    fault = await stage.graph.fault("refresh_token", "pause_before")
    assert isinstance(stage.handler, VariantHandler)
    refresher = Refresher(stage.connections, stage.handler.graph, stage.keys, stage.handler.metrics)

    async with anyio.create_task_group() as group:
        group.start_soon(refresher.refresh_next)
        assert (await stage.graph.control("GET", f"faults/{fault}/hit?timeout=30"))["hit"] is True
        await add(stage, Owner(owner.id, "IGAAfrom-a-person"))
        await stage.graph.control("POST", f"faults/{fault}/resume", {})
    [(ciphertext,)] = await stage.rows(CIPHERTEXT)
    assert stage.keys.decrypt(bytes(ciphertext)).get_secret_value() == "IGAAfrom-a-person"
    assert stage.metric("outbox_token_refreshes_total", result="refreshed") == 0


@asynccontextmanager
async def dispatched_as_far_as(stage: Stage, event: Event, call: str) -> AsyncIterator[list[Outcome]]:
    """Dispatch an event, which stands before a call for the block, and then goes on; gives a list for its outcome."""
    fault = await stage.graph.fault(call, "pause_before")
    outcomes: list[Outcome] = []

    async def dispatch() -> None:
        outcomes.append(await stage.dispatch(event))

    async with anyio.create_task_group() as group:
        group.start_soon(dispatch)
        assert (await stage.graph.control("GET", f"faults/{fault}/hit?timeout=30"))["hit"] is True
        yield outcomes
        await stage.graph.control("POST", f"faults/{fault}/resume", {})


async def test_a_refusal_of_the_old_token_does_not_hold_the_account_for_the_new_one(stage: Stage) -> None:
    """The old one was refused after a person had set it: nobody would set a third."""
    event, owner = await stage.approve("instagram image"), await stage.owner("instagram")
    async with dispatched_as_far_as(stage, event, "create_container") as outcomes:
        await stage.graph.control("PATCH", f"accounts/{owner.id}", {"token": "EAAfromAPerson"})
        await add(stage, Owner(owner.id, "EAAfromAPerson"))
    assert isinstance(outcomes[0], Defer)
    assert isinstance((await stage.play(event)).end, Published)
    await stage.graph.control("PATCH", f"accounts/{owner.id}", {"token_state": "expired"})
    assert isinstance(await stage.dispatch(await stage.approve("instagram image")), Hold)


async def test_a_login_that_a_person_has_repaired_meanwhile_does_not_hold_the_account(stage: Stage) -> None:
    """The old token met a checkpoint after the new one was set: what would release that hold has happened already."""
    event, owner = await stage.approve("instagram image"), await stage.owner("instagram")
    await stage.graph.fault("publish_container", "error", code=190, subcode=459, times=None)
    async with dispatched_as_far_as(stage, event, "list_stories") as outcomes:
        await add(stage, Owner(owner.id, "EAAfromAPerson"))
    assert isinstance(outcomes[0], Defer)
    await stage.graph.control("PATCH", f"accounts/{owner.id}", {"token": "EAAfromAPerson"})
    assert isinstance(end := (await stage.play(event)).end, Hold)
    assert end.reason == "account"


@pytest.mark.parametrize(
    ("kind", "scope"), [("instagram image", "instagram_content_publish"), ("facebook image", "pages_manage_posts")]
)
async def test_a_permission_that_was_taken_away_holds_the_account(stage: Stage, kind: str, scope: str) -> None:
    """Until a token is set that has it."""
    event = await stage.approve(kind)
    platform = kind.partition(" ")[0]
    owner = await stage.owner(platform)
    await stage.graph.control("PATCH", f"accounts/{owner.id}", {"missing_scopes": [scope]})
    hold = await stage.dispatch(event)
    assert isinstance(hold, Hold)
    assert (hold.reason, hold.delay_seconds) == ("token", math.inf)
    token = "EAAthatMay"
    await stage.graph.control("PATCH", f"accounts/{owner.id}", {"missing_scopes": [], "token": token})
    await add(stage, Owner(owner.id, token), platform)
    assert isinstance((await stage.play(event)).end, Published)


async def test_one_relay_refreshes_a_token(stage: Stage) -> None:
    """However many look at once."""
    owner = await stage.graph.owner("instagram", login="instagram")
    await add(stage, owner)
    await stage.execute(DUE)
    await stage.graph.advance(DAY + 60)
    assert isinstance(stage.handler, VariantHandler)
    refresher = Refresher(stage.connections, stage.handler.graph, stage.keys, stage.handler.metrics)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(refresher.refresh_next)
    assert (await stage.graph.control("GET", "counts"))["counts"]["refresh_token"] == 1


@pytest.mark.parametrize(("days", "state"), [(None, "ok"), (8, "ok"), (6, "expiring"), (-1, "expired")])
async def test_gauges_tell_how_tokens_stand(stage: Stage, days: int | None, state: str) -> None:
    """And how soon the first one expires."""
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    await add(stage, await stage.graph.owner("facebook"), "facebook", expires_at)
    await add(stage, await stage.graph.owner("facebook"), "facebook")
    registry = CollectorRegistry()
    await Gauges(stage.connections, PublisherMetrics(registry)).read()

    def metric(name: str, **labels: str) -> float:
        value = registry.get_sample_value(name, labels)
        assert value is not None
        return value

    assert metric("outbox_accounts_token", state=state) == (2 if state == "ok" else 1)
    soonest = metric("outbox_token_expires_seconds")
    assert math.isnan(soonest) if days is None else soonest == pytest.approx(days * DAY, abs=120)


async def test_a_token_that_meta_refuses_is_told_as_refused(stage: Stage) -> None:
    """Until there is a new one, with which the event goes on at no attempt."""
    event = await stage.approve("facebook image")
    owner = await stage.owner("facebook")
    await stage.graph.control("PATCH", f"accounts/{owner.id}", {"token_state": "password_changed"})
    hold = (await stage.play(event)).end
    assert isinstance(hold, Hold)
    key = f"facebook:{owner.id}"
    await stage.execute(HOLD, key, hold.reason)
    async with stage.connections.connection() as connection:
        assert (await show_account(connection, key)).token_state == "refused"
    await stage.graph.control("PATCH", f"accounts/{owner.id}", {"token": "EAAanother", "token_state": "valid"})
    await add(stage, Owner(owner.id, "EAAanother"), "facebook")
    async with stage.connections.connection() as connection:
        assert (await show_account(connection, key)).token_state == "ok"
    assert isinstance((await stage.play(event)).end, Published)
