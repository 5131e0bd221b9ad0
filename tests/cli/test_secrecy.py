"""No token, password, key, caption or media address gets out of a relay or a command, whatever quotes it."""

from __future__ import annotations

import json
import secrets
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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
from relay.cli.application import build
from tests.cli.calling import BENCHMARKS, PROGRAM, Outbox, run, started, watch_top
from tests.cli.test_usage import leaves
from tests.crash.theatre import environment
from tests.operations.histories import Histories
from tests.processes import poll
from tests.publisher.stage import picture, serve_files
from tests.sandbox.client import Client, Owner

pytestmark = pytest.mark.anyio

PASSWORD: Final = "sesame-password"
APP_SECRET: Final = "sesame0app0secret"
CAPTION: Final = "sesame opens at noon"
TOLD: Final = (
    "OUTBOX_DSN",
    "PUBLISHER_APP_SECRET",
    "PUBLISHER_TOKEN_KEYS",
    "PUBLISHER_GRAPH_URL",
    "PUBLISHER_PRIVATE_MEDIA",
)
"""What commands are given of the relay's environment."""

WALK: Final[tuple[tuple[int | None, str], ...]] = (
    (0, "show 1"),
    (0, "show 1 --json"),
    (0, "show 2 --json"),
    (0, "show 3"),
    (0, "show 3 --json"),
    (0, "show 4 --json"),
    (0, "show 5"),
    (0, "events"),
    (0, "events --json --error token"),
    (0, "stats --json"),
    (0, "relays --json"),
    (0, "lanes --json"),
    (0, "holds"),
    (0, "holds --json"),
    (None, "doctor --json"),
    (0, "settings"),
    (0, "settings --json"),
    (0, "unknown list --all --json"),
    (0, "unknown list"),
    (0, "resolve 5"),
    (0, "resolve 5 --json"),
    (0, "resolve 5 --published - --dry-run --reason {secrets}"),
    (0, "resolve 5 --published - --reason {secrets} --json"),
    (1, "--traceback show 99"),
    (1, "--traceback emit t --payload @{payload} --publish-at +1m --expires-at +1s"),
    (0, "emit t --payload @{payload} --header why={secrets} --dry-run"),
    (0, "emit t --payload @{payload} --header why={secrets} --json"),
    (2, "emit t --payload @{nonsense}"),
    (0, "replay 3 --dry-run --reason {secrets}"),
    (0, "replay 3 --json --reason {secrets}"),
    (0, "replay --state dead --dry-run --error {secrets}"),
    (0, "replay --state dead --state published --force --json --reason {secrets}"),
    (0, "replays"),
    (0, "replays --json"),
    (0, "cancel 4 --dry-run --json"),
    (0, "cancel 4 --reason {secrets}"),
    (1, "--traceback cancel 1"),
    (0, "cancel --replay {replay} --reason {secrets} --json"),
    (0, "hold k2 --reason {secrets} --dry-run --json"),
    (0, "hold k2 --reason {secrets} --json"),
    (0, "release k2 --dry-run"),
    (0, "release k2 --reason {secrets} --json"),
    (0, "prune --dry-run"),
    (0, "prune --older-than 9d --reason {secrets} --json"),
    (0, "operations"),
    (0, "operations --json"),
    (0, "accounts list"),
    (0, "accounts list --json"),
    (0, "accounts show {account}"),
    (0, "accounts show {account} --json"),
    (1, "--traceback accounts add --platform instagram --id {id} --name n --dry-run"),
    (0, "accounts add --platform instagram --id {id} --name n --dry-run --json"),
    (0, "accounts add --platform instagram --id {id} --name n --reason {secrets}"),
    (0, "accounts rotate-keys --json"),
    (0, "accounts generate-key"),
    (0, "check-media {media} --placement story"),
    (1, "--traceback check-media {media}.gone --placement story --kind image --json"),
    (0, "migrate --dry-run"),
    (0, "migrate --json"),
    (0, "completion bash"),
    (0, "recover"),
    (0, "recover --begin --reason {secrets}"),
    (0, "recover --json"),
    (1, "recover --confirm"),
    (1, "recover --verify --dry-run"),
    (0, "recover --verify --json --reason {secrets}"),
    (0, "recover --confirm --json --reason {secrets}"),
)
"""Each command for people, with its status; None where it is another test's. No word of a line has a space in it."""

ELSEWHERE: Final = {
    "relay": "the test runs it, as a service",
    "sandbox": "test_the_sandbox_tells_no_secret",
    "top": "test_what_is_live_on_a_terminal_is_no_secret",
    "demo": "takes no address and no token; everything it shows is of its own making",
    **{
        f"bench {name}": "its events are of its own making; tests/bench looks for the password of its address"
        for name in BENCHMARKS
    },
}


def test_no_command_is_forgotten() -> None:
    """Each is walked with secrets all around it, or there is a reason why not."""
    walked = {
        name
        for name, _ in leaves(build())
        for _, line in WALK
        if f"{line} ".removeprefix("--traceback ").startswith(f"{name} ")
    }
    assert sorted(walked | set(ELSEWHERE)) == sorted(name for name, _ in leaves(build()))
    assert walked & set(ELSEWHERE) == set()


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
def secret_dsn(database: str) -> Iterator[str]:
    """The test's database, as a superuser with a secret password opens it."""
    given, name = conninfo_to_dict(database), f"keeper_{secrets.token_hex(4)}"
    role = sql.Identifier(name)
    with psycopg.connect(database, autocommit=True) as connection:
        create = sql.SQL("create role {} superuser login password {}")
        connection.execute(create.format(role, sql.Literal(PASSWORD)))
    yield f"postgresql://{name}:{PASSWORD}@{given['host']}:{given['port']}/{given['dbname']}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("drop owned by {}").format(role))
        connection.execute(sql.SQL("drop role {}").format(role))


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
        account = f"instagram:{owner.id}"
        await connection.execute("select social.create_variant(%s, %s)", [account, media_url])
        post: LiteralString = "select social.create_variant(%s, %s, placement => 'feed', caption => %s, alt_text => %s)"
        await connection.execute(post, [account, media_url, CAPTION, CAPTION])
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
    unset: Outbox, database: str, secret_dsn: str, graph: tuple[Client, str], tmp_path: Path
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
        shown = await anyio.to_thread.run_sync(watch, database, log, 3)
    kept = await _kept(database)
    await _doubt(database, message)
    for endpoint in ("debug_token", "list_stories"):  # accounts add, and recover --verify: the first call of each
        await client.fault(endpoint, "error", code=1, message=message)
    walk = Walk(unset, {name: variables[name] for name in TOLD}, owner, media_url, tmp_path)
    told = {line: await anyio.to_thread.run_sync(walk.step, status, line) for status, line in WALK}
    everything = {**shown, "log": log.read_text(), "arguments": arguments, "kept": kept, **told}
    assert {"publish.reconciled", "event.settled"} <= {
        json.loads(line)["event"] for line in everything["log"].splitlines()
    }
    assert leaks(everything, secrets_of(owner, key, media_url)) == []


@dataclass(frozen=True, slots=True)
class Walk:
    """Calls one command after another, with secrets wherever one takes a text, a file or standard input."""

    outbox: Outbox
    variables: dict[str, str]
    owner: Owner
    media_url: str
    directory: Path

    def step(self, status: int | None, line: str) -> str:
        """What a command prints; it must end with the status that is expected of it."""
        self.outbox.set(**self.variables)
        document = json.dumps({"caption": CAPTION, "media_url": self.media_url, "access_token": self.owner.token})
        for name, text in (("payload", document), ("nonsense", document[:-1])):
            (self.directory / name).write_text(text)
        given = {
            "secrets": f"{self.owner.token}:{self.media_url}",
            "payload": self.directory / "payload",
            "nonsense": self.directory / "nonsense",
            "account": f"instagram:{self.owner.id}",
            "id": self.owner.id,
            "media": self.media_url,
            "replay": self.outbox("replays", "--json").objects[0]["id"] if "{replay}" in line else None,
        }
        words = [word.format(**given) for word in line.split()]
        # What sets up logs for its process is given one.
        alone = "--verify" in words
        answer = run(*words, **self.variables) if alone else self.outbox(*words, stdin=self.owner.token)
        assert status in (None, answer.status), f"{line}: {answer.out}{answer.err}"
        return answer.out + answer.err


async def test_the_sandbox_tells_no_secret(graph: tuple[Client, str]) -> None:
    """Of a client that gives it a token, a caption and an address."""
    _, media_url = graph
    with started("sandbox", "--port", "0", "--json", SANDBOX_APP_SECRET=APP_SECRET) as process:
        assert process.stdout is not None
        first = await anyio.to_thread.run_sync(process.stdout.readline)
        async with aiohttp.ClientSession() as session:
            client = Client(json.loads(first)["url"], session)
            owner = await client.owner("instagram")
            await client.post(f"/{owner.id}/media", owner.token, caption=CAPTION, image_url=f"{media_url}.gone")
            await client.get("/me", f"{owner.token}x")
        process.terminate()
        out, err = await anyio.to_thread.run_sync(process.communicate)
    assert leaks({"printed": out + err}, secrets_of(owner, "no key", media_url)) == []


def test_what_is_live_on_a_terminal_is_no_secret(secret_dsn: str, histories: Histories) -> None:
    """A hold's reason is a person's text, and may quote anything."""
    token, media_url = "EAAsesamesesamesesame", "https://cdn.example/sesame.jpg"
    histories.connection.execute("select outbox.hold('k', 'infinity', %s)", [f"sesame: {token} {media_url}"])
    shown = watch_top(secret_dsn, lambda text: "sesame" in text)
    assert leaks({"shown": shown}, {"token": token, "media": media_url, "password": PASSWORD}) == []


def secrets_of(owner: Owner, key: str, media_url: str) -> dict[str, str]:
    """What must not be seen anywhere."""
    return {
        "token": owner.token,
        "password": PASSWORD,
        "app secret": APP_SECRET,
        "keys": key,
        "media": media_url,
        "caption": CAPTION,
    }


def leaks(texts: Mapping[str, str], secrets: Mapping[str, str]) -> list[tuple[str, str]]:
    """Which secret is seen where."""
    return [(name, place) for place, text in texts.items() for name, secret in secrets.items() if secret in text]


async def _doubt(dsn: str, message: str) -> None:
    """An event whose call may have gone through, and whose error quotes what it should not."""
    async with await connections.connect(dsn, application_name="doubt") as connection:
        row = await (await connection.execute("select outbox.emit('t', '{}', key => 'k2')")).fetchone()
        assert row is not None
        await connection.execute(
            "insert into outbox.steps (event_id, position, name, state, detail, relay_id) "
            "values (%s, 1, 'publish', 'intent', '{}', 1)",
            row,
        )
        await connection.execute(
            "insert into outbox.waiting (event_id, lane, key, reason, due_at, attempts, deferrals, error) "
            "select e.id, e.lane, e.key, 'unknown', 'infinity', 1, 0, %s from outbox.events as e where e.id = %s",
            [message, *row],
        )


async def _kept(dsn: str) -> str:
    """What the relay wrote: steps, attempts, receipts, holds and waits."""
    query = sql.SQL(
        "select to_jsonb(s)::text from outbox.steps as s union all select to_jsonb(a)::text from outbox.attempts as a "
        "union all select to_jsonb(r)::text from outbox.receipts as r "
        "union all select to_jsonb(w)::text from outbox.waiting as w"
    )
    async with await connections.connect(dsn, application_name="look") as connection:
        return repr(await (await connection.execute(query)).fetchall())
