"""Settings, keys and accounts."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from cryptography.fernet import Fernet
from prometheus_client import CollectorRegistry
from psycopg import AsyncConnection
from pydantic import SecretStr, ValidationError

from outbox.handler import Runtime
from outbox.settings import SettingsError
from publisher.accounts import add_account, list_accounts
from publisher.errors import AccountInvalid, SettingsUnsuitable, TokenUnreadable
from publisher.handler import open_handler, open_handler_with
from publisher.settings import PublisherSettings
from publisher.tokens import KeyRing, generate_key, open_key_ring
from tests.publisher.stage import Stage

pytestmark = pytest.mark.anyio
HOLD = """
insert into outbox.holds (scope, key, held_until, reason, held_by) values ('key', %s, 'infinity', 'token', 'relay')
"""


def test_two_names_are_as_the_incident_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """VARIANT_RETRY_DELAY_SECONDS and MAX_VARIANT_RETRIES have no prefix; 45 and 3 are their defaults."""
    assert (PublisherSettings().variant_retry_delay_seconds, PublisherSettings().max_variant_retries) == (45, 3)
    monkeypatch.setenv("VARIANT_RETRY_DELAY_SECONDS", "7")
    monkeypatch.setenv("MAX_VARIANT_RETRIES", "9")
    assert (PublisherSettings().variant_retry_delay_seconds, PublisherSettings().max_variant_retries) == (7, 9)


def test_the_defaults_are_metas_addresses_and_a_publish_fits_into_a_lease() -> None:
    """A lease is 15 s."""
    settings = PublisherSettings()
    assert (settings.graph_url, settings.graph_version) == ("https://graph.facebook.com", "v25.0")
    assert settings.publish_seconds == 8


@pytest.mark.parametrize(
    "wrong", [{"graph_url": "graph.facebook.com"}, {"graph_version": "25"}, {"image_poll_seconds": (2, 1)}, {"nope": 1}]
)
def test_a_wrong_setting_is_refused(wrong: dict[str, object]) -> None:
    """Before anything runs."""
    with pytest.raises(ValidationError):
        PublisherSettings.model_validate(wrong)


def test_secrets_are_not_in_the_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither keys nor the app's secret."""
    key = generate_key()
    monkeypatch.setenv("PUBLISHER_TOKEN_KEYS", key)
    monkeypatch.setenv("PUBLISHER_APP_SECRET", "app secret")
    text = repr(PublisherSettings())
    assert key not in text
    assert "app secret" not in text


def test_the_first_key_encrypts_and_every_key_decrypts() -> None:
    """Keys are rotated by putting a new one in front."""
    old, new = generate_key(), generate_key()
    before = KeyRing(old).encrypt(SecretStr("EAAtoken"))
    both = KeyRing(f"{new}, {old}")
    assert both.decrypt(before).get_secret_value() == "EAAtoken"
    assert Fernet(new).decrypt(both.encrypt(SecretStr("EAAtoken"))) == b"EAAtoken"


def test_a_foreign_ciphertext_is_one_sentence() -> None:
    """It says what to do and shows nothing."""
    with pytest.raises(TokenUnreadable, match="PUBLISHER_TOKEN_KEYS"):
        KeyRing(generate_key()).decrypt(KeyRing(generate_key()).encrypt(SecretStr("EAAtoken")))


@pytest.mark.parametrize("keys", ["", " , ", "not a key", f"{'A' * 43}=,short"])
def test_keys_that_are_none_are_refused_without_being_shown(keys: str) -> None:
    """By position."""
    with pytest.raises(SettingsUnsuitable) as caught:
        KeyRing(keys)
    assert "not a key" not in str(caught.value)
    assert "short" not in str(caught.value)


def test_keys_may_come_from_a_file_but_not_from_two_places(tmp_path: Path) -> None:
    """One source."""
    path = tmp_path / "keys"
    path.write_text(f"{generate_key()}\n{generate_key()}\n", encoding="ascii")
    open_key_ring(PublisherSettings(token_keys_file=path))
    with pytest.raises(SettingsUnsuitable, match="both"):
        open_key_ring(PublisherSettings(token_keys_file=path, token_keys=SecretStr(generate_key())))
    with pytest.raises(SettingsUnsuitable, match="No such file"):
        open_key_ring(PublisherSettings(token_keys_file=tmp_path / "none"))


async def test_the_factory_refuses_to_open_without_keys(stage: Stage) -> None:
    """One sentence at start, not a hold for every account."""
    with pytest.raises(SettingsUnsuitable, match="PUBLISHER_TOKEN_KEYS"):
        async with open_handler(Runtime(stage.connections, CollectorRegistry())):
            pass


async def test_the_factory_refuses_a_call_that_no_lease_would_outlive(stage: Stage) -> None:
    """Said at the start, with the settings to change; not found out at every intent."""
    with pytest.raises(SettingsUnsuitable, match="raise OUTBOX_LEASE_SECONDS"):
        async with open_handler_with(Runtime(stage.connections, CollectorRegistry(), 1.5), stage.settings):
            pass


async def test_the_factory_refuses_wrong_settings_in_one_sentence(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the value, which may be a secret."""
    monkeypatch.setenv("PUBLISHER_READ_SECONDS", "soonish")
    with pytest.raises(SettingsError) as caught:
        async with open_handler(Runtime(stage.connections, CollectorRegistry())):
            pass
    assert "PUBLISHER_READ_SECONDS" in str(caught.value)
    assert "soonish" not in str(caught.value)


async def test_an_operator_adds_an_account_and_later_its_new_token(database: str) -> None:
    """The role outbox_operator may do both, and sees no token; what the key held goes on."""
    keys = KeyRing(generate_key())
    async with await AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("set role outbox_operator")
        account, released = await add_account(
            connection,
            keys,
            platform="instagram",
            remote_id="17841405822304914",
            name="Greenhouse",
            token=SecretStr("one"),
        )
        assert released == 0
        await connection.execute("reset role")
        await connection.execute(HOLD, [account.key])
        await connection.execute("set role outbox_operator")
        again, _ = await add_account(
            connection,
            keys,
            platform="instagram",
            remote_id="17841405822304914",
            name="Glasshouse",
            token=SecretStr("two"),
        )
        assert (again.id, again.name) == (account.id, "Glasshouse")
        assert again.token_set_at > account.token_set_at
        assert await list_accounts(connection) == [again]
        assert "two" not in repr(again)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("select token_ciphertext from social.accounts")
        await connection.execute("reset role")
        row = await (await connection.execute("select token_ciphertext from social.accounts")).fetchone()
        assert row is not None
        assert keys.decrypt(bytes(row[0])).get_secret_value() == "two"
        held = await (await connection.execute("select count(*) from outbox.holds")).fetchone()
        assert held == (0,)


@pytest.mark.parametrize(
    "wrong", [{"platform": "threads"}, {"remote_id": "@greenhouse"}, {"name": " "}, {"token": SecretStr(" ")}]
)
async def test_an_account_that_can_not_be_is_refused(stage: Stage, wrong: dict[str, object]) -> None:
    """Each with a sentence."""
    given = {"platform": "instagram", "remote_id": "17", "name": "Greenhouse", "token": SecretStr("EAA")} | wrong
    async with stage.connections.connection() as connection:
        with pytest.raises(AccountInvalid, match="expected"):
            await add_account(connection, stage.keys, **given)  # type: ignore[arg-type]
