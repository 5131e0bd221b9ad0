"""`outbox accounts`: tokens go in encrypted, and never come out."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from publisher.tokens import KeyRing, generate_key
from relay.cli import BAD_USAGE
from tests.cli.calling import Outbox
from tests.operations.histories import Histories

TOKEN = "EAAB" + "t0ken" * 10
ADD = ["accounts", "add", "--platform", "instagram", "--id", "17841400000000000", "--name", "Brand"]
KEY = "instagram:17841400000000000"


@pytest.fixture
def keys(outbox: Outbox) -> KeyRing:
    """The key ring that the environment holds."""
    key = generate_key()
    outbox.set(PUBLISHER_TOKEN_KEYS=key)
    return KeyRing(key)


def test_the_token_comes_from_standard_input_or_a_file(
    outbox: Outbox, keys: KeyRing, histories: Histories, tmp_path: Path
) -> None:
    """Its white space is dropped, and a second add replaces it."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}-2\n", encoding="utf-8")
    for token, arguments, stdin in ((TOKEN, [], f"{TOKEN}\n"), (f"{TOKEN}-2", ["--token-file", file], "")):
        answer = outbox(*ADD, *arguments, stdin=stdin)
        assert (answer.status, answer.lines) == (0, [KEY])
        assert TOKEN not in answer.out + answer.err
        [(ciphertext,)] = histories.fetch("select token_ciphertext from social.accounts")
        assert keys.decrypt(ciphertext) == SecretStr(token)


def test_a_new_token_lets_held_events_go_on(outbox: Outbox, keys: KeyRing, histories: Histories) -> None:
    """And says how many."""
    histories.hold(KEY)
    histories.wait(histories.emit(key=KEY), "held")
    [added] = outbox(*ADD, "--json", stdin=TOKEN).objects
    assert added["released_count"] == 1
    assert list(added) == ["key", "id", "platform", "remote_id", "name", "token_set_at", "created_at", "released_count"]
    assert histories.fetch("select key from outbox.holds") == []


def test_accounts_are_listed_without_their_tokens(outbox: Outbox, keys: KeyRing) -> None:
    """As lines and as JSON."""
    assert outbox(*ADD, stdin=TOKEN).status == 0
    [line] = outbox("accounts", "list").lines
    assert line.split("\t")[:2] == [KEY, "Brand"]
    [listed] = outbox("accounts", "list", "--json").objects
    assert (listed["key"], listed["name"], listed["remote_id"]) == (KEY, "Brand", "17841400000000000")
    assert "token_ciphertext" not in listed


@pytest.mark.parametrize(
    ("arguments", "stdin", "sentence"),
    [
        ([*ADD[:5], "12x", *ADD[6:]], TOKEN, "expected the account's id at Meta, digits only"),
        ([*ADD[:7], " "], TOKEN, "expected a name for people"),
        (ADD, " \n", "expected an access token, found none"),
    ],
)
def test_an_account_that_cannot_be_is_one_sentence(
    outbox: Outbox, keys: KeyRing, arguments: list[str], stdin: str, sentence: str
) -> None:
    """Nothing is added."""
    answer = outbox(*arguments, stdin=stdin)
    assert answer.status == 1
    assert sentence in answer.sentence()
    assert outbox("accounts", "list").out == ""


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "expected token keys, found none; set PUBLISHER_TOKEN_KEYS"),
        ({"PUBLISHER_TOKEN_KEYS": "no-key-s3cr3t"}, "expected token key 1 of 1 to be 32 bytes"),
        ({"PUBLISHER_TOKEN_KEY": "s3cr3t"}, "PUBLISHER_TOKEN_KEY is not a setting: expected one of "),
        ({"PUBLISHER_READ_SECONDS": "s3cr3t"}, "PUBLISHER_READ_SECONDS: input should be a valid number"),
        ({"PUBLISHER_IMAGE_POLL_SECONDS": "s3cr3t"}, "expected JSON such as [1, 15] in a setting"),
        ({"MAX_VARIANT_RETRIES": "-1"}, "MAX_VARIANT_RETRIES: input should be greater than or equal to 0"),
    ],
)
def test_publisher_settings_that_do_not_fit_are_one_sentence(
    outbox: Outbox, variables: dict[str, str], sentence: str
) -> None:
    """With the variable's name and never its value."""
    outbox.set(**variables)
    answer = outbox(*ADD, stdin=TOKEN)
    assert answer.status == 1
    assert sentence in answer.sentence()
    assert "s3cr3t" not in answer.err


def test_a_token_file_that_cannot_be_read_is_bad_usage(outbox: Outbox, keys: KeyRing, tmp_path: Path) -> None:
    """It says why."""
    answer = outbox(*ADD, "--token-file", tmp_path / "nowhere")
    assert answer.status == BAD_USAGE
    assert answer.sentence().startswith("expected a file with an access token at ")


def test_a_generated_key_is_a_key(unset: Outbox) -> None:
    """A new one each time; it needs no setting."""
    first, second = unset("accounts", "generate-key").out.strip(), unset("accounts", "generate-key").out.strip()
    assert first != second
    Fernet(first)
