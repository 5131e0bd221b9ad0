"""No secret leaves the process in a log."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from relay import logs
from relay.cli.printing import to_json
from relay.redaction import redact, redact_value

SECRET = "EAAsesame0123456789"


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the relay writes to stderr, in JSON."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    before = structlog.get_config()
    logs.configure("json", "info")
    yield written
    structlog.configure(**before)


@pytest.mark.parametrize(
    "text",
    [
        f"?access_token={SECRET}",
        f'{{"access_token": "{SECRET}"}}',
        f"'access_token': '{SECRET}'",
        f"ACCESS_TOKEN={SECRET}",
        "appsecret_proof=sesame0123456789abcdef",
        "client_secret=sesame0123456789",
        "password=sesame host=db",
        "password='open sesame' host=db",
        "postgresql://relay:sesame@db/app",
        "Authorization: Bearer sesame0123456789",
        "authorization: bearer sesame0123456789",
        "Bearer sesame+0123456789/sesame",
        "OAuth sesame0123456789",
        f"token {SECRET} was revoked",
        "IGAAsesame0123456789",
        "https://media.example/sesame.jpg?signature=1",
        "HTTPS://media.example/sesame.jpg",
    ],
)
def test_what_may_be_a_secret_is_struck_out(text: str) -> None:
    """Tokens, proofs, passwords and media URLs, however they are written."""
    assert "sesame" not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "gave up after 3 attempts: no answer",
        "event 17 of instagram:17841400000000000 expired",
        "17841400000000000",
        "can't connect to PostgreSQL at db:5432/app: connection refused",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """Redaction leaves people something to read."""
    assert redact(text) == text


def test_what_stands_beside_a_secret_stays() -> None:
    """The name and the place are told."""
    assert redact("postgresql://relay:sesame@db/app is down") == "postgresql://relay:[redacted]@db/app is down"


@pytest.mark.parametrize(
    "values",
    [
        {"error": f"access_token={SECRET}"},
        {"context": {"request": f"access_token={SECRET}"}},
        {"context": [f"access_token={SECRET}"]},
        {"context": {"access_token": "sesame"}},
        {"error": RuntimeError(f"access_token={SECRET}")},
    ],
    ids=["text", "nested", "list", "by-name", "exception"],
)
def test_no_value_of_a_log_event_shows_a_secret(stderr: io.StringIO, values: dict[str, Any]) -> None:
    """Wherever in the event it is."""
    structlog.get_logger().warning("event.settled", **values)
    line = stderr.getvalue()
    assert json.loads(line)["event"] == "event.settled"
    assert "sesame" not in line


def test_no_traceback_shows_a_secret(stderr: io.StringIO) -> None:
    """An exception's message is written by others."""
    try:
        raise RuntimeError(f"GET https://graph.example/?access_token={SECRET}")
    except RuntimeError:
        structlog.get_logger().exception("handler.raised")
    assert "RuntimeError" in stderr.getvalue()
    assert "sesame" not in stderr.getvalue()


def test_a_line_is_one_json_object(stderr: io.StringIO) -> None:
    """With its level and an instant, for machines; below the level nothing is written."""
    structlog.get_logger().debug("event.settled")
    structlog.get_logger().info("event.settled", event_id=7, error="two\nlines")
    [line] = stderr.getvalue().splitlines()
    found = json.loads(line)
    assert (found["level"], found["event_id"], found["error"]) == ("info", 7, "two\nlines")
    assert found["timestamp"].endswith("Z")


@pytest.mark.parametrize("value", ["s3same", ["s3same"], {"key": "s3same"}])
def test_a_secret_name_hides_all_that_is_under_it(value: object) -> None:
    """In logs and on the command line alike; a number or a flag is no secret."""
    document = {"access_tokens": value, "credentials": value, "captions": value, "tokens_left": 3, "has_token": True}
    for shown in (redact_value("", document), to_json(document)):
        assert "s3same" not in str(shown)
        assert (shown["tokens_left"], shown["has_token"]) == (3, True)


def test_a_log_that_nobody_reads_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under `outbox relay 2>&1 | head -2`."""
    reading, writing = os.pipe()
    before = structlog.get_config()
    with os.fdopen(writing, "w", buffering=1) as pipe:
        monkeypatch.setattr(sys, "stderr", pipe)
        logs.configure("json", "info")
        log = structlog.get_logger()
        log.info("relay.started")
        os.close(reading)
        for _ in range(3):
            log.info("event.settled")
    structlog.configure(**before)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, as Linux has it")
def test_a_log_whose_disk_is_full_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines are lost until there is room."""
    before = structlog.get_config()
    with open("/dev/full", "w", buffering=1) as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stderr", full)
        logs.configure("json", "info")
        structlog.get_logger().info("event.settled")
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), full.fileno())  # or closing it fails
    structlog.configure(**before)
