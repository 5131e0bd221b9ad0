"""`outbox emit`, `events` and `show`: what was written is what is told."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.calling import Outbox
from tests.operations.histories import Histories

TOKEN = "EAAB" + "x" * 40
MEDIA = "https://cdn.example/secret/picture.jpg?signature=abc"
PERMALINK = "https://www.instagram.com/stories/brand/17900000000000000/"


def emitted(outbox: Outbox, *arguments: object, stdin: str = "") -> int:
    answer = outbox("emit", *arguments, stdin=stdin)
    assert (answer.status, answer.err) == (0, "")
    return int(answer.out)


def shown(outbox: Outbox, event_id: int) -> dict[str, Any]:
    answer = outbox("show", event_id, "--json")
    assert (answer.status, answer.err) == (0, "")
    [document] = answer.objects
    return document


def test_emit_writes_all_that_it_is_given(outbox: Outbox) -> None:
    """Every option stands in the event."""
    instants = ["--publish-at", "2030-07-29T18:00:00+02:00", "--expires-at", "2030-07-29T17:00:00Z"]
    routes = ["--key", "k", "--sequence", "s", "--dedupe-key", "d", "--header", "trace=1=2", "--header", "app=x"]
    life = shown(outbox, emitted(outbox, "t", "--payload", '{"n": 1}', *routes, *instants))
    event = life["event"]
    assert [event[name] for name in ("type", "key", "sequence", "state")] == ["t", "k", "s", "new"]
    assert (event["publish_at"], event["expires_at"]) == ("2030-07-29T16:00:00Z", "2030-07-29T17:00:00Z")
    assert (life["payload"], life["dedupe_key"]) == ({"n": 1}, "d")
    assert life["headers"] == {"trace": "1=2", "app": "x"}


def test_emit_takes_a_distance_from_now(outbox: Outbox) -> None:
    """By the database's clock."""
    event = shown(outbox, emitted(outbox, "t", "--publish-at", "+1h30m"))["event"]
    distance = datetime.fromisoformat(event["publish_at"]) - datetime.fromisoformat(event["created_at"])
    assert timedelta(minutes=89) < distance <= timedelta(minutes=90)


def test_emit_reads_the_payload_from_a_file_or_standard_input(outbox: Outbox, tmp_path: Path) -> None:
    """@FILE and -; without either it is empty."""
    file = tmp_path / "payload.json"
    file.write_text('{"from": "é"}', encoding="utf-8")
    ids = [
        emitted(outbox, "t", "--payload", f"@{file}"),
        emitted(outbox, "t", "--payload", "-", stdin='{"from": "input"}'),
        emitted(outbox, "t"),
    ]
    assert [shown(outbox, each)["payload"] for each in ids] == [{"from": "é"}, {"from": "input"}, {}]


def test_emitting_a_dedupe_key_again_prints_the_first_id(outbox: Outbox) -> None:
    """The second time nothing is written."""
    first = outbox("emit", "t", "--dedupe-key", "d", "--json").objects
    assert outbox("emit", "t", "--dedupe-key", "d", "--json").objects == first == [{"id": first[0]["id"]}]


def test_emitting_can_be_tried(outbox: Outbox) -> None:
    """The rules are asked, and nothing is kept."""
    assert outbox("emit", "t", "--dry-run", "--json").objects == [{"is_done": False}]
    assert "would be emitted" in outbox("emit", "t", "--dry-run").err
    assert "a sequence needs a key" in outbox("emit", "t", "--sequence", "s", "--dry-run").sentence().replace("_", " ")
    assert outbox("events").lines == []


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["t", "--sequence", "s"], "a sequence needs a key"),
        ([""], "a type is not empty"),
        (["t", "--publish-at", "+2h", "--expires-at", "+1h"], "an event expires after it is due"),
    ],
)
def test_an_event_that_breaks_a_rule_is_refused_with_it(outbox: Outbox, arguments: list[str], rule: str) -> None:
    """The rule's name is a sentence."""
    answer = outbox("emit", *arguments)
    assert answer.status == 1
    assert answer.sentence().endswith(f"found that it breaks this one: {rule}")


def test_a_payload_that_postgresql_cannot_hold_is_one_sentence(outbox: Outbox) -> None:
    """A NUL inside a text, which is JSON and no jsonb."""
    answer = outbox("emit", "t", "--payload", '{"n": "\\u0000"}')
    assert answer.status == 1
    assert "unsupported Unicode escape sequence" in answer.sentence()


def test_events_are_listed_newest_first_one_a_line(outbox: Outbox, histories: Histories) -> None:
    """Tabs between columns, as JSON an object a line."""
    done, new = histories.ended("published", key="k"), histories.emit()
    answer = outbox("events")
    assert answer.status == 0
    assert [line.split("\t")[:5] for line in answer.lines] == [
        [str(new), "new", "", "t", ""],
        [str(done), "published", "", "t", "k"],
    ]
    objects = outbox("events", "--json").objects
    assert [each["id"] for each in objects] == [new, done]
    assert list(objects[0]) == [
        *("id", "type", "key", "sequence", "state", "reason", "attempts", "deferrals", "error", "due_at"),
        *("publish_at", "expires_at", "replay_of", "created_at", "settled_at"),
    ]


def test_events_are_filtered_and_paged(outbox: Outbox, histories: Histories) -> None:
    """Filters narrow together; a full page says how to go on."""
    dead = [histories.ended(reason="rejected", key="k") for _ in range(3)]
    histories.ended("published", key="k")
    filters = ["--state", "dead", "--type", "t", "--key", "k", "--reason", "rejected", "--since", "2h", "--json"]
    first = outbox("events", *filters, "--limit", 2)
    assert [each["id"] for each in first.objects] == [dead[2], dead[1]]
    assert first.err == f"there may be more: --before {dead[1]}\n"
    second = outbox("events", *filters, "--limit", 2, "--before", dead[1])
    assert [each["id"] for each in second.objects] == [dead[0]]
    assert second.err == ""
    assert outbox("events", "--since", "2100-01-01T00:00:00Z").out == ""


def test_an_event_can_not_write_to_the_terminal(outbox: Outbox, histories: Histories) -> None:
    """Control characters are shown, not obeyed: an event is always one line."""
    histories.end(histories.emit("t\x1b[2J\n"), error="a\tb\r\nc\u202e")
    [line] = outbox("events").lines
    assert "\x1b" not in line
    assert "t\\x1b[2J\\n" in line
    assert line.endswith("\ta\\tb\\r\\nc\\u202e")


def test_show_tells_the_whole_life(outbox: Outbox, histories: Histories) -> None:
    """Every attempt, step, request and receipt, on a line each, after what the event is."""
    event_id = histories.emit("variant.created", payload={"variant_id": "v"}, key="instagram:1")
    histories.attempt(event_id, "no answer", {"code": 2})
    histories.step(event_id, "publish", "intent", {"container": "1"})
    histories.step(event_id, "publish", "done", {"remote_id": "2"})
    assert outbox("cancel", event_id, "--reason", "too late").status == 0
    histories.end(event_id, "published", result={"remote_id": "2", "permalink": PERMALINK})
    answer = outbox("show", event_id)
    assert answer.status == 0
    facts = dict(line.split("\t") for line in answer.lines[:7])
    assert facts == {
        "event": str(event_id),
        "type": "variant.created",
        "state": "published",
        "may be live": "yes",
        "key": "instagram:1",
        "payload": '{"variant_id":"v"}',
        "result": json.dumps({"permalink": PERMALINK, "remote_id": "2"}, separators=(",", ":")),
    }
    by = "relay 1 (host:1)"
    told = [line.split("\t")[1:] for line in answer.lines[7:]]
    assert [told[0], *told[1:4], told[5], told[6]] == [
        ["emitted", ""],
        ["attempt", f'retry; no answer; {{"code":2}}; {by}'],
        ["step 1", f'publish intent; {{"container":"1"}}; {by}'],
        ["step 2", f'publish done; {{"remote_id":"2"}}; {by}'],
        ["dispatched", by],
        ["published", f"failed attempts: 1, deferrals: 2; {by}"],
    ]
    assert told[4][0] == "cancellation asked"
    assert told[4][1].endswith("; too late")


def test_show_tells_what_an_event_waits_for(outbox: Outbox, histories: Histories) -> None:
    """Why, until when, and who holds it."""
    event_id = histories.emit(key="k")
    histories.wait(event_id, "held", error="the token has expired")
    histories.hold("k")
    lines = outbox("show", event_id).lines
    assert lines[-2].startswith("waits held; since ")
    assert lines[-2].endswith(
        "; for another event or a person; failed attempts: 1, deferrals: 0; the token has expired"
    )
    assert lines[-1] == "the key k is held until somebody releases it: token, by host:1"


def test_show_tells_which_post_was_found_later(outbox: Outbox, histories: Histories) -> None:
    """The receipt could not name it; what was found afterwards stands behind it, on its own line and in JSON."""
    event_id = histories.emit("variant.created", key="instagram:1")
    histories.end(event_id, "published", result={"remote_id": None, "permalink": None})
    other = histories.ended("published")
    histories.find_post(event_id, "17920238422030506", PERMALINK)
    told = json.dumps({"remote_id": "17920238422030506", "permalink": PERMALINK}, separators=(",", ":"))
    assert outbox("show", event_id).lines[-1].split("\t")[1:] == ["post found", told]
    found = shown(outbox, event_id)["moments"][-1]
    assert (found["what"], found["remote_id"], found["permalink"]) == ("post_found", "17920238422030506", PERMALINK)
    assert shown(outbox, other)["moments"][-1]["what"] == "receipt"


def test_show_has_one_json_shape(outbox: Outbox, histories: Histories) -> None:
    """One document: the event, its body, its moments, what it waits for."""
    event_id = histories.emit(key="k")
    histories.attempt(event_id, "no answer")
    histories.wait(event_id, "retry", due_at="2100-01-01T00:00:00Z")
    histories.hold("k")
    life = shown(outbox, event_id)
    assert list(life) == [
        *("event", "payload", "headers", "dedupe_key", "lane", "result", "may_be_live", "moments", "waiting", "holds")
    ]
    assert [moment["what"] for moment in life["moments"]] == ["emitted", "attempt"]
    assert life["waiting"]["due_at"] == "2100-01-01T00:00:00Z"
    assert (life["holds"][0]["scope"], life["holds"][0]["held_until"]) == ("key", None)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_show_prints_no_token_and_no_media_url(outbox: Outbox, histories: Histories, options: list[str]) -> None:
    """Wherever they stand: payload, headers, attempts, steps, errors, waiting."""
    payload = {"media_url": MEDIA, "nested": [{"access_token": "plain-looking", "text": f"Bearer {TOKEN}"}]}
    event_id = histories.emit(payload=payload, headers={"authorization": "plain-looking"})
    histories.attempt(event_id, f"GET {MEDIA} failed", {"url": MEDIA, "token": "plain-looking"})
    histories.step(event_id, "container", "done", {"upload_url": MEDIA, "permalink": MEDIA})
    histories.wait(event_id, "retry", error=f"access_token={TOKEN}")
    answer = outbox("show", event_id, *options)
    assert answer.status == 0
    for secret in (TOKEN, "cdn.example", "plain-looking"):
        assert secret not in answer.out
    assert "[redacted]" in answer.out


def test_showing_what_does_not_exist_is_one_sentence(outbox: Outbox) -> None:
    """Status 1."""
    answer = outbox("show", 7)
    assert (answer.status, answer.sentence()) == (1, "event 7 does not exist")
