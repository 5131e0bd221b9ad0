"""`outbox relay`, `sandbox` and `settings`: programs that run until they are stopped, and what they start with."""

from __future__ import annotations

import json
import logging
import signal
import socket
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import anyio.from_thread
import psycopg
import pytest
import structlog

from outbox.event import Event
from outbox.handler import Handler, Runtime
from outbox.ledger import Ledger
from outbox.outcome import Dead, Outcome, Published, Retry
from publisher.settings import PublisherSettings
from publisher.tokens import generate_key
from relay import app
from relay.settings import RelaySettings
from tests.cli.calling import Outbox, run, started
from tests.processes import poll

PASSWORD = "s3cr3t-pa55"


@asynccontextmanager
async def open_handler(_: Runtime) -> AsyncIterator[Handler]:
    """Publishes at the second try; what is hopeless dies."""

    async def handle(event: Event, ledger: Ledger) -> Outcome:
        if event.payload.get("hopeless"):
            return Dead("it will never work", "rejected")
        if ledger.attempts == 0:
            return Retry("no answer")
        await ledger.intent("publish", fingerprint="f", detail={}, call_seconds=1)
        await ledger.done("publish", {"remote_id": "1"})
        return Published({"remote_id": "1"})

    yield handle


@contextmanager
def relaying(dsn: str) -> Iterator[None]:
    """A relay beside the block, in a thread of its own."""
    given = {"dsn": dsn, "metrics_port": 0, "backoff_base_seconds": 0.01}
    settings = RelaySettings.model_validate(given)
    # Its log would stand between the lines that commands print here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with anyio.from_thread.start_blocking_portal() as portal:
        stop = portal.call(anyio.Event)
        with portal.wrap_async_context_manager(app.serve(settings, stop, factories={"t": open_handler})):
            try:
                yield
            finally:
                portal.call(stop.set)


def test_the_command_line_follows_an_event_through_a_relay(outbox: Outbox, database: str) -> None:
    """Emitted, tried, published; another one dead, and replayed to the same end."""
    works, dies = (int(outbox("emit", "t", "--payload", each).out) for each in ("{}", '{"hopeless": true}'))
    with relaying(database):

        def ended(state: str) -> list[int]:
            return [each["id"] for each in outbox("events", "--state", state, "--json").objects]

        assert poll(lambda: ended("published") == [works] and ended("dead") == [dies])
        [life] = outbox("show", works, "--json").objects
        told = [moment["what"] for moment in life["moments"]]
        assert sorted(told) == ["attempt", "dispatched", "emitted", "receipt", "step", "step"]
        assert (told[0], told[-1], life["result"]) == ("emitted", "receipt", {"remote_id": "1"})
        [replayed] = outbox("replay", "--state", "dead", "--json").objects
        assert poll(lambda: replayed["replay_id"] in ended("dead"))
        assert outbox("replay", works).status == 1


def test_a_relay_ends_cleanly_at_sigterm(database: str) -> None:
    """Status 0, and its lanes are free."""
    variables = {"OUTBOX_DSN": database, "OUTBOX_METRICS_PORT": "0", "PUBLISHER_TOKEN_KEYS": generate_key()}
    owned = "select count(*) from outbox.lanes where relay_id is not null"
    with started("relay", **variables) as process, psycopg.connect(database, autocommit=True) as connection:

        def owned_count() -> int:
            [(count,)] = connection.execute(owned).fetchall()
            return int(count)

        assert poll(lambda: owned_count() == 64 or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
        assert (process.returncode, owned_count()) == (0, 0), err


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"OUTBOX_CONCURENCY": "8"}, "OUTBOX_CONCURENCY is not a setting: expected one of "),
        ({"OUTBOX_CONCURRENCY": PASSWORD}, "OUTBOX_CONCURRENCY: input should be a valid integer"),
        ({"OUTBOX_LEASE_SECONDS": "0"}, "OUTBOX_LEASE_SECONDS: input should be greater than or equal to 1"),
        ({"PUBLISHER_TOKENS": PASSWORD}, "PUBLISHER_TOKENS is not a setting: expected one of "),
        ({"OUTBOX_METRICS_PORT": "0"}, "expected token keys, found none"),
    ],
)
def test_a_relay_that_cannot_start_says_why(outbox: Outbox, variables: dict[str, str], sentence: str) -> None:
    """One sentence, status 1, no value of a setting."""
    outbox.set(**variables)
    answer = outbox("relay")
    assert answer.status == 1
    assert sentence in answer.sentence()
    assert PASSWORD not in answer.err


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_relay_says_that_its_port_is_in_use(outbox: Outbox, taken_port: int) -> None:
    """And which setting to change."""
    outbox.set(OUTBOX_METRICS_PORT=str(taken_port), PUBLISHER_TOKEN_KEYS=generate_key())
    answer = outbox("relay")
    assert answer.status == 1
    assert f"127.0.0.1:{taken_port}, but it is in use: set OUTBOX_METRICS_PORT" in answer.sentence()


def test_a_sandbox_says_that_its_port_is_in_use(unset: Outbox, taken_port: int) -> None:
    """One sentence, status 1."""
    answer = unset("sandbox", "--port", taken_port)
    assert answer.status == 1
    assert f"127.0.0.1:{taken_port}" in answer.sentence()


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"SANDBOX_PROT": "1"}, "SANDBOX_PROT is not a setting: expected one of "),
        ({"SANDBOX_SEED": "x"}, "SANDBOX_SEED: input should be a valid integer"),
        ({"SANDBOX_REQUIRE_PROOF": "true"}, "require_proof needs app_secret"),
    ],
)
def test_sandbox_settings_that_do_not_fit_are_one_sentence(
    unset: Outbox, variables: dict[str, str], sentence: str
) -> None:
    """With the variable's name."""
    unset.set(**variables)
    answer = unset("sandbox", "--port", 0)
    assert answer.status == 1
    assert sentence in answer.sentence()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_sandbox_runs_until_it_is_stopped(number: signal.Signals) -> None:
    """Its URL is on stdout, and answers."""
    with started("sandbox", "--port", "0", "--json") as process:
        assert process.stdout is not None
        running = json.loads(process.stdout.readline())
        with urllib.request.urlopen(f"{running['url']}/_sandbox/health") as response:  # noqa: S310 (our own port)
            assert response.status == 200
        assert running["url"] == f"http://127.0.0.1:{running['port']}"
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
        assert (process.returncode, "Traceback" in err) == (0, False)


def test_settings_are_listed_without_the_password(unset: Outbox) -> None:
    """Each with its value, whether the environment sets it, and what it is."""
    unset.set(OUTBOX_DSN=f"postgresql://u:{PASSWORD}@h/db", OUTBOX_CONCURRENCY="3")
    objects = {each["name"]: each for each in unset("settings", "--json").objects}
    assert objects["OUTBOX_CONCURRENCY"] == {
        "name": "OUTBOX_CONCURRENCY",
        "value": 3,
        "is_set": True,
        "source": "environment",
        "allowed": "1 to 1000",
        "description": "handlers that run at once",
    }
    assert objects["OUTBOX_DSN"]["value"] == "h, database db, role u"
    assert objects["OUTBOX_SLICE_COUNT"]["is_set"] is False
    lines = unset("settings").lines
    assert len(lines) == len(objects) == len(RelaySettings.model_fields) + len(PublisherSettings.model_fields)
    assert not [line for line in lines if PASSWORD in line]


def test_an_interrupted_command_is_quiet() -> None:
    """Ctrl-C while it connects: status 130, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        dsn = f"postgresql://u:{PASSWORD}@127.0.0.1:{server.getsockname()[1]}/db"
        with started("migrate", OUTBOX_DSN=dsn) as process:
            peer, _ = server.accept()
            with peer:
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_program_on_its_own_tells_one_sentence() -> None:
    """As a person sees it, through the console script."""
    answer = run("events", OUTBOX_DSN=f"postgresql://u:{PASSWORD}@127.0.0.1:1/db")
    assert answer.status == 1
    assert "127.0.0.1:1, database db" in answer.sentence()
    assert PASSWORD not in answer.err


def test_settings_tell_where_they_come_from(unset: Outbox, tmp_path: Path) -> None:
    """Of relay and publisher; a secret from a file is as secret as one from the environment."""
    path = tmp_path / "secret"
    path.write_text(PASSWORD)
    unset.set(
        OUTBOX_DSN="postgresql://u@h/db",
        OUTBOX_LEASE_SECONDS="30",
        PUBLISHER_APP_SECRET_FILE=str(path),
        PUBLISHER_GRAPH_URL="http://dana:hunter2@127.0.0.1:8026",
    )
    answer = unset("settings", "--json")
    assert PASSWORD not in answer.out
    objects = {each["name"]: each for each in answer.objects}
    assert (objects["OUTBOX_LEASE_SECONDS"]["source"], objects["OUTBOX_LEASE_SECONDS"]["allowed"]) == (
        "environment",
        "1 to 300",
    )
    assert objects["OUTBOX_POLL_SECONDS"]["source"] == "default"
    assert objects["PUBLISHER_APP_SECRET"]["source"] == f"file {path}"
    assert objects["PUBLISHER_APP_SECRET"]["value"] == "[redacted]"
    assert objects["PUBLISHER_GRAPH_URL"]["value"] == "127.0.0.1:8026, by http"
    assert objects["VARIANT_RETRY_DELAY_SECONDS"]["value"] == 45
