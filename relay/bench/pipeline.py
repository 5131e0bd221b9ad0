"""`outbox bench pipeline`: image stories published for real, through a relay and by a bare script.

    sandbox      a process of its own, anew for each side of each round; takes any URL as good, images take no time
    relay        a process of its own, with the installed handler and its default settings; the stories wait in the log
    bare script  a process of its own (bare_program.py): the same calls over as many accounts, and no outbox

Both have one story of an account in flight at most, and all accounts at once. A container is finished when its status
is read for the first time, right after it was made: neither side waits for Meta, and what is compared is work. The
sandbox counts the calls of both: what the publisher asks beyond the five of a story (quotas) is the relay's own cost.

This file knows the publisher, to add accounts with their tokens locked up; the relay finds its handler as ever.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, LiteralString

import aiohttp
import anyio
import orjson
from pydantic import SecretStr

from outbox import database
from outbox.errors import OutboxError
from publisher.accounts import add_account
from publisher.tokens import KeyRing, generate_key
from relay.bench.progress import Tell
from relay.bench.readings import Cost, changes, read, total_changes
from relay.bench.relay_process import OURS, Order, running
from schema.server import connect

EVENT_TYPE: Final = "variant.created"
PATIENCE_SECONDS: Final = 600.0
STOP_SECONDS: Final = 10.0

CREATE_STORIES: LiteralString = """
select count(social.create_variant(account => account, media_url => media_url))
from unnest(%(accounts)s::text[], %(media_urls)s::text[]) as t (account, media_url)
"""
TRUNCATE: LiteralString = """
truncate social.accounts, social.content_items, social.content_variants, outbox.events, outbox.receipts, outbox.steps
cascade
"""


@dataclass(frozen=True, slots=True)
class Published:
    """What publishing showed, over all rounds.

    Attributes:
        cost: Of the relay's side: an event is a story.
        bare_stories_per_second: The bare script's rate.
        bare_cpu_microseconds: Of its process, a story.
        share: The relay's rate as a share of the bare script's, the median of the rounds.
        relay_calls, bare_calls: Calls of Graph a story, by the sandbox's count.
        sandbox_calls_per_cpu_second: How many of the bare script's the sandbox answers for a second of its CPU.
    """

    cost: Cost
    bare_stories_per_second: float
    bare_cpu_microseconds: float
    share: float
    relay_calls: float
    bare_calls: float
    sandbox_calls_per_cpu_second: float


@dataclass(frozen=True, slots=True)
class _Account:
    """One that the sandbox has, and what it is to publish."""

    remote_id: str
    token: str
    media_urls: Sequence[str]

    @property
    def key(self) -> str:
        return f"instagram:{self.remote_id}"


@dataclass(frozen=True, slots=True)
class _Served:
    """What a sandbox has done."""

    calls: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class _Bare:
    """What the bare script managed."""

    seconds: float
    cpu_seconds: float
    sandbox: _Served


def pipeline(dsn: str, stories: int, accounts: int, rounds: int, tell: Tell) -> Published:
    """Publish so many stories of so many accounts on each side of each round, the sides in turns."""
    bare: list[_Bare] = []
    relayed: list[tuple[Cost, int]] = []
    for number in range(rounds):
        tell("rounds", number, rounds)
        bare.append(_publish_bare(stories, accounts))
        relayed.append(_publish_relayed(dsn, stories, accounts, tell))
    tell("rounds", rounds, rounds)
    costs = [cost for cost, _ in relayed]
    seconds = sum(cost.seconds for cost in costs)
    cost = Cost(
        events=stories * rounds,
        seconds=seconds,
        cpu_microseconds=sum(cost.cpu_microseconds or 0 for cost in costs) / rounds,
        wal_bytes=sum(cost.wal_bytes for cost in costs) / rounds,
        statements=sum(cost.statements for cost in costs) / rounds,
        tables=total_changes([cost.tables for cost in costs]),
    )
    return Published(
        cost,
        bare_stories_per_second=stories * rounds / sum(each.seconds for each in bare),
        bare_cpu_microseconds=sum(each.cpu_seconds for each in bare) / (stories * rounds) * 1e6,
        share=median(one.seconds / other.seconds for one, other in zip(bare, costs, strict=True)),
        relay_calls=sum(calls for _, calls in relayed) / (stories * rounds),
        bare_calls=sum(each.sandbox.calls for each in bare) / (stories * rounds),
        sandbox_calls_per_cpu_second=(
            sum(each.sandbox.calls for each in bare) / sum(each.sandbox.cpu_seconds for each in bare)
        ),
    )


def _publish_bare(stories: int, count: int) -> _Bare:
    with _sandbox(stories) as url:
        accounts = anyio.run(_make_accounts, url, stories, count)
        before = anyio.run(_served, url)
        errands = [{"account": each.remote_id, "token": each.token, "media_urls": each.media_urls} for each in accounts]
        answer = subprocess.run(
            [sys.executable, "-P", "-m", "relay.bench.bare_program"],
            input=orjson.dumps({"graph_url": url, "errands": errands}),
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            start_new_session=True,
            check=False,
        )
        if answer.returncode != 0:
            said = [line for line in answer.stderr.decode(errors="replace").splitlines() if "error" in line.lower()]
            raise OutboxError(f"expected the bare script to publish, found: {said[0] if said else 'nothing said'}")
        after = anyio.run(_served, url)
        served = _Served(after.calls - before.calls, after.cpu_seconds - before.cpu_seconds)
        return _Bare(**orjson.loads(answer.stdout), sandbox=served)


def _publish_relayed(dsn: str, stories: int, count: int, tell: Tell) -> tuple[Cost, int]:
    """Publish through the log, and return what that cost and how many calls there were."""
    token_key = generate_key()
    with _sandbox(stories) as url:
        accounts = anyio.run(_make_accounts, url, stories, count)
        with connect(dsn) as connection:
            connection.execute(TRUNCATE)
        anyio.run(_add_accounts, dsn, token_key, accounts)
        with connect(dsn) as connection:
            # In turns: the log holds one story of each account after the other's.
            planned = sorted(
                ((place, each.key, media_url) for each in accounts for place, media_url in enumerate(each.media_urls))
            )
            arguments = {"accounts": [key for _, key, _ in planned], "media_urls": [url for *_, url in planned]}
            connection.execute(CREATE_STORIES, arguments)
        before = read(dsn)
        # Nobody looks at the media: neither sandbox, nor publisher, nor script.
        environment = {
            "PUBLISHER_GRAPH_URL": url,
            "PUBLISHER_TOKEN_KEYS": token_key,
            "PUBLISHER_CHECK_MEDIA": "false",
        }
        order = Order(dsn, stories, event_type=EVENT_TYPE, concurrency=count)
        with running(order, environment) as relay:
            work = relay.await_work(tell)
            relay.stop()
        after = read(dsn)
        statements = (after.statements - before.statements) / stories
        cost = Cost(stories, work.seconds, work.cpu_microseconds, work.wal_bytes, statements, changes(before, after))
        return cost, anyio.run(_served, url).calls


@contextmanager
def _sandbox(stories: int) -> Iterator[str]:
    """Run a sandbox until the end of the block, and give its URL."""
    settings = {
        "SANDBOX_CHECK_MEDIA": "false",
        "SANDBOX_IMAGE_SECONDS": "[0, 0]",
        "SANDBOX_QUOTA_TOTAL": str(stories),
        "SANDBOX_CONTAINER_LIMIT": str(stories),
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "relay.cli", "sandbox", "--port", "0", "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**environment, **settings},
        start_new_session=True,  # a Ctrl-C in the terminal is for us alone
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            if not said:
                raise OutboxError("expected the sandbox to start, found that it ended: try `outbox sandbox --port 0`")
            yield orjson.loads(said)["url"]
            process.terminate()
            process.wait(STOP_SECONDS)
        finally:
            process.kill()


async def _make_accounts(url: str, stories: int, count: int) -> list[_Account]:
    """Have the sandbox make accounts, and share the stories out among them."""
    made = []
    async with aiohttp.ClientSession() as session:
        for number in range(count):
            answer = await _ask(
                session, "POST", f"{url}/_sandbox/accounts", {"platform": "instagram", "name": f"{number}"}
            )
            urls = [f"https://media.example/{story}.jpg" for story in range(number, stories, count)]
            made.append(_Account(answer["id"], answer["token"], urls))
    return made


async def _add_accounts(dsn: str, token_key: str, accounts: Sequence[_Account]) -> None:
    """Add them to the outbox as an operator would."""
    ring = KeyRing(token_key)
    async with await database.connect(dsn, application_name="bench-accounts") as connection:
        for each in accounts:
            await add_account(
                connection,
                ring,
                platform="instagram",
                remote_id=each.remote_id,
                name=each.remote_id,
                token=SecretStr(each.token),
            )


async def _served(url: str) -> _Served:
    async with aiohttp.ClientSession() as session:
        counts = await _ask(session, "GET", f"{url}/_sandbox/counts")
        return _Served(sum(counts["counts"].values()), counts["cpu_seconds"])


async def _ask(session: aiohttp.ClientSession, method: str, url: str, body: object = None) -> Any:
    async with session.request(method, url, json=body) as response:
        return await response.json()
