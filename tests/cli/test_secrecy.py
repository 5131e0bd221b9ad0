"""No token, password, key, caption or media address gets out of a relay or a command, whatever quotes it."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, LiteralString

import aiohttp
import anyio
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from outbox import database as connections
from publisher.accounts import add_account
from publisher.sandbox.server import serve
from publisher.sandbox.settings import SandboxSettings
from publisher.tokens import KeyRing, generate_key
from tests.cli.calling import PROGRAM, run
from tests.crash.theatre import environment
from tests.processes import poll
from tests.publisher.stage import picture, serve_files
from tests.sandbox.client import Client, Owner

pytestmark = pytest.mark.anyio

PASSWORD: Final = "sesame-password"
APP_SECRET: Final = "sesame0app0secret"
CAPTION: Final = "sesame opens at noon"
COMMANDS: Final = (
    ("show", "1"),
    ("show", "1", "--json"),
    ("show", "2"),
    ("show", "2", "--json"),
    ("show", "3"),
    ("events", "--json"),
    ("events",),
    ("operations", "--json"),
    ("accounts", "list", "--json"),
    ("holds", "--json"),
    ("unknown", "list", "--all", "--json"),
    ("stats", "--json"),
    ("doctor", "--json"),
    ("settings", "--json"),
    ("settings",),
    ("--traceback", "show", "99"),
    ("--traceback", "emit", "t", "--payload", '{"a": 1}', "--publish-at", "+1m", "--expires-at", "+1s"),
)


@pytest.fixture
async def graph() -> AsyncIterator[tuple[Client, str]]:
    """A sandbox, and the address of a picture."""
    settings = SandboxSettings(port=0, image_seconds=(0, 0), app_secret=SecretStr(APP_SECRET))
    async with (
        serve(settings) as sandbox,
        serve_files({"sesame.jpg": picture()}) as media,
        aiohttp.ClientSession() as session,
    ):
        yield Client(sandbox.url, session), f"{media}/sesame.jpg"


@pytest.fixture
def secret_dsn(database: str) -> str:
    """The test's database with a password in its address, which the server does not ask for."""
    given = conninfo_to_dict(database)
    return f"postgresql://{given['user']}:{PASSWORD}@{given['host']}:{given['port']}/{given['dbname']}"


async def feed(dsn: str, owner: Owner, key: str, media_url: str) -> None:
    """Write secrets wherever an application may: a variant, a payload, headers, a reason."""
    async with await connections.connect(dsn, application_name="feed") as connection:
        await add_account(
            connection,
            KeyRing(key),
            platform="instagram",
            remote_id=owner.id,
            name="greenhouse",
            token=SecretStr(owner.token),
        )
        await connection.execute("select social.create_variant(%s, %s)", [f"instagram:{owner.id}", media_url])
        payload = {"caption": CAPTION, "media_url": media_url, "access_token": owner.token, "why": f"see {media_url}"}
        document = json.dumps(payload)
        await connection.execute("select outbox.emit('t', %s, headers => %s)", [document, document])
        await connection.execute("select outbox.emit('variant.created', %s, key => 'k')", [document])
        await connection.execute("select outbox.hold('k', 'infinity', %s)", [f"token {owner.token} of {media_url}"])


@contextmanager
def relaying(variables: Mapping[str, str], log: Path) -> Iterator[str]:
    """Run a relay for the block; gives its command line as the system shows it."""
    with log.open("wb") as written, subprocess.Popen([PROGRAM, "relay"], stderr=written, env=variables) as relay:
        try:
            process = Path(f"/proc/{relay.pid}/cmdline")
            yield process.read_text() if process.exists() else ""
        finally:
            relay.terminate()
            relay.wait(timeout=60)


def watch(dsn: str, log: Path, count: int) -> dict[str, str]:
    """Wait until so many events have ended, and look at all that a running relay shows."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        query: LiteralString = "select count(*) from outbox.receipts"
        assert poll(lambda: connection.execute(query).fetchall() == [(count,)], seconds=60), log.read_text()
        sessions = connection.execute("select application_name, query from pg_stat_activity").fetchall()
    lines = map(json.loads, log.read_text().splitlines())
    port = next(line["port"] for line in lines if line["event"] == "http.listening")
    pages = [urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}").read() for page in ("metrics", "readyz")]
    return {"http": repr(pages), "sessions": repr(sessions)}


async def test_nothing_secret_gets_out(
    database: str, secret_dsn: str, graph: tuple[Client, str], tmp_path: Path
) -> None:
    """Through failures that quote all of it, a look after a lost answer, a success, and every command for people."""
    client, media_url = graph
    owner, key = await client.owner("instagram"), generate_key()
    await feed(database, owner, key, media_url)
    message = f"Can't read {media_url} with {owner.token}"
    await client.fault("create_container", "error", code=1, message=message)
    await client.fault("publish_container", "apply_then_error", code=2, status=500, message=message)
    log = tmp_path / "log"
    variables = {
        **environment(secret_dsn, client.url, key),
        "OUTBOX_LOG_LEVEL": "debug",
        "OUTBOX_LOG_FORMAT": "json",
        "PUBLISHER_APP_SECRET": APP_SECRET,
        "PATH": "/usr/bin:/bin",
    }
    with relaying(variables, log) as arguments:
        shown = await anyio.to_thread.run_sync(watch, database, log, 2)
    told = await anyio.to_thread.run_sync(_commands, variables)
    kept = await _kept(database)
    everything = {**shown, "log": log.read_text(), "arguments": arguments, "commands": told, "kept": kept}
    assert {"publish.reconciled", "event.settled"} <= {
        json.loads(line)["event"] for line in everything["log"].splitlines()
    }
    secrets = {
        "token": owner.token,
        "password": PASSWORD,
        "app secret": APP_SECRET,
        "keys": key,
        "media": media_url,
        "caption": CAPTION,
    }
    assert [
        (name, place) for place, text in everything.items() for name, secret in secrets.items() if secret in text
    ] == []


def _commands(variables: Mapping[str, str]) -> str:
    """What all commands print, with secrets in the environment."""
    named = ("OUTBOX_DSN", "PUBLISHER_APP_SECRET", "PUBLISHER_TOKEN_KEYS", "PUBLISHER_GRAPH_URL")
    given = {name: variables[name] for name in named}
    answers = [run(*command, **given) for command in COMMANDS]
    assert [answer.status for answer in answers[:12]] == [0] * 12
    return "".join(answer.out + answer.err for answer in answers)


async def _kept(dsn: str) -> str:
    """What the relay wrote: steps, attempts, receipts, holds and waits."""
    query = sql.SQL(
        "select to_jsonb(s)::text from outbox.steps as s union all select to_jsonb(a)::text from outbox.attempts as a "
        "union all select to_jsonb(r)::text from outbox.receipts as r "
        "union all select to_jsonb(w)::text from outbox.waiting as w"
    )
    async with await connections.connect(dsn, application_name="look") as connection:
        return repr(await (await connection.execute(query)).fetchall())
