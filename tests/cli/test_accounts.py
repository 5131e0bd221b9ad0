"""`outbox accounts`: tokens go in encrypted, and never come out."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from publisher.tokens import KeyRing, generate_key
from relay.cli import BAD_USAGE
from tests.cli.calling import Outbox, started
from tests.operations.histories import Histories

TOKEN = "EAAB" + "t0ken" * 10
ADD = ["accounts", "add", "--platform", "instagram", "--id", "17841400000000000", "--name", "Brand", "--no-check"]
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
    told = ["key", "id", "platform", "remote_id", "name", "token_set_at", "created_at", "released_count"]
    assert list(added) == [*told, "token_expires_at", "is_checked", "is_done"]
    assert histories.fetch("select key from outbox.holds") == []


def test_a_new_token_ends_no_hold_of_a_persons(outbox: Outbox, keys: KeyRing, histories: Histories) -> None:
    """Nor one until a limit's end: neither is about the token."""
    assert outbox("hold", KEY, "--reason", "crisis: post nothing").status == 0
    histories.wait(histories.emit(key=KEY), "held")
    [added] = outbox(*ADD, "--json", stdin=TOKEN).objects
    assert added["released_count"] == 0
    assert histories.fetch("select reason from outbox.holds") == [("crisis: post nothing",)]


def test_a_new_token_says_why_and_can_be_tried_first(outbox: Outbox, keys: KeyRing, histories: Histories) -> None:
    """A try keeps nothing; the reason is in both rows of the audit; many events are asked about."""
    histories.hold(KEY)
    for _ in range(21):
        histories.wait(histories.emit(key=KEY), "held")
    [tried] = outbox(*ADD, "--dry-run", "--json", stdin=TOKEN).objects
    assert (tried["released_count"], tried["is_done"]) == (21, False)
    assert (outbox("accounts", "list").out, outbox("operations").out) == ("", "")
    answer = outbox(*ADD, stdin=TOKEN)
    assert (answer.status, "expected --yes to release more than 20 events" in answer.sentence()) == (BAD_USAGE, True)
    assert outbox(*ADD, "--yes", "--reason", "renewed by dana", stdin=TOKEN).status == 0
    told = {each["operation"]: each["reason"] for each in outbox("operations", "--json").objects}
    assert told == {"account": "renewed by dana", "release": "renewed by dana"}


def test_accounts_are_listed_without_their_tokens(outbox: Outbox, keys: KeyRing) -> None:
    """As lines and as JSON."""
    assert outbox(*ADD, stdin=TOKEN).status == 0
    [line] = outbox("accounts", "list").lines
    assert line.split("\t")[:2] == [KEY, "Brand"]
    [listed] = outbox("accounts", "list", "--json").objects
    assert (listed["key"], listed["name"], listed["remote_id"]) == (KEY, "Brand", "17841400000000000")
    assert "token_ciphertext" not in listed


@pytest.fixture
def sandbox(outbox: Outbox) -> Iterator[str]:
    """A sandbox, to which the settings point; its URL."""
    with started("sandbox", "--port", "0") as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        outbox.set(PUBLISHER_GRAPH_URL=url)
        yield url


def control(url: str, path: str, body: dict[str, object], method: str = "POST") -> dict[str, str]:
    request = urllib.request.Request(f"{url}/_sandbox/{path}", json.dumps(body).encode(), method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 (our own port)
        answer: dict[str, str] = json.load(response)
    return answer


def test_a_token_is_checked_before_it_is_stored(outbox: Outbox, keys: KeyRing, sandbox: str) -> None:
    """A good one is added; another account's, or a dead one, is one sentence that shows nothing of it."""
    first, second = (control(sandbox, "accounts", {"platform": "facebook", "name": "n"}) for _ in range(2))
    arguments = ["accounts", "add", "--platform", "facebook", "--id", first["id"], "--name", "Brand"]
    answer = outbox(*arguments, stdin=second["token"])
    assert answer.status == 1
    assert f"can publish for facebook:{first['id']}, found that " in answer.sentence()
    assert second["token"] not in answer.err
    assert outbox("accounts", "list").out == ""
    assert outbox(*arguments, stdin=first["token"]).lines == [f"facebook:{first['id']}"]
    control(sandbox, f"accounts/{first['id']}", {"token_state": "password_changed"}, "PATCH")
    assert outbox(*arguments, stdin=first["token"]).status == 1


def test_a_token_that_lacks_a_permission_says_which(outbox: Outbox, keys: KeyRing, sandbox: str) -> None:
    """All of them, and nothing is stored; given back, it is."""
    owner = control(sandbox, "accounts", {"platform": "instagram", "name": "n"})
    arguments = ["accounts", "add", "--platform", "instagram", "--id", owner["id"], "--name", "Brand"]
    missing = ["instagram_content_publish", "pages_read_engagement"]
    control(sandbox, f"accounts/{owner['id']}", {"missing_scopes": missing}, "PATCH")
    answer = outbox(*arguments, stdin=owner["token"])
    assert answer.status == 1
    assert f"it lacks the permission {', '.join(missing)}" in answer.sentence()
    assert outbox("accounts", "list").out == ""
    control(sandbox, f"accounts/{owner['id']}", {"missing_scopes": []}, "PATCH")
    assert outbox(*arguments, stdin=owner["token"]).status == 0


def test_where_meta_cannot_be_asked_a_token_can_be_added_unseen(outbox: Outbox, keys: KeyRing) -> None:
    """It says how."""
    outbox.set(PUBLISHER_GRAPH_URL="http://127.0.0.1:9")
    answer = outbox(*ADD[:-1], stdin=TOKEN)
    assert answer.status == 1
    assert "--no-check" in answer.sentence()
    assert outbox(*ADD, stdin=TOKEN).status == 0


def test_an_account_shows_how_it_stands(outbox: Outbox, keys: KeyRing, histories: Histories) -> None:
    """Its token, its limits, what holds it; never the token."""
    assert outbox(*ADD, stdin=TOKEN).status == 0
    histories.connection.execute(
        "insert into social.usage (subject, percent, read_at, quota_usage, quota_total, quota_read_at) "
        "values (%s, 80, clock_timestamp(), 12, 50, clock_timestamp()), "
        "('app', 7, clock_timestamp(), null, null, null)",
        [KEY],
    )
    [state] = outbox("accounts", "show", KEY, "--json").objects
    assert (state["key"], state["token_state"], state["quota_state"]) == (KEY, "ok", "slow")
    assert (state["percent"], state["app_percent"], state["quota_usage"], state["quota_total"]) == (80, 7, 12, 50)
    shown = outbox("accounts", "show", KEY).out
    assert "80 %" in shown
    assert "12 of 50 publishes in 24 h" in shown
    assert "containers\t0 of 400 in 24 h" in shown
    answer = outbox("accounts", "show", "instagram:1")
    assert answer.status == 1
    assert "expected the key of an account, found instagram:1" in answer.sentence()


def test_keys_are_rotated_once(outbox: Outbox, keys: KeyRing, histories: Histories) -> None:
    """A try changes nothing, and a second time there is nothing left to do."""
    assert outbox(*ADD, stdin=TOKEN).status == 0
    old, new = os.environ["PUBLISHER_TOKEN_KEYS"], generate_key()
    outbox.set(PUBLISHER_TOKEN_KEYS=f"{new},{old}")
    assert outbox("accounts", "rotate-keys", "--dry-run").out.startswith("1 tokens would be encrypted anew")
    assert outbox("accounts", "rotate-keys", "--reason", "yearly").out.startswith("1 tokens are encrypted anew")
    [again] = outbox("accounts", "rotate-keys", "--json").objects
    assert again == {"renewed": [], "unreadable": [], "kept_count": 1, "is_done": True}
    [(ciphertext,)] = histories.fetch("select token_ciphertext from social.accounts")
    assert KeyRing(new).decrypt(ciphertext) == SecretStr(TOKEN)
    [operation] = [each for each in outbox("operations", "--json").objects if each["reason"] == "yearly"]
    assert operation["detail"] == {"what": "token encrypted anew"}


def test_a_token_that_no_key_opens_fails_the_rotation(outbox: Outbox, keys: KeyRing) -> None:
    """With the account's key, and what to do."""
    assert outbox(*ADD, stdin=TOKEN).status == 0
    outbox.set(PUBLISHER_TOKEN_KEYS=generate_key())
    answer = outbox("accounts", "rotate-keys")
    assert answer.status == 1
    assert f"found 1 that none opens, {KEY} first" in answer.err


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
