"""Thousands of variants of all placements, and a Graph API that fails in every way that the sandbox knows.

What a relay believes afterwards is compared with what the sandbox says is live: a variant is published and live
exactly once, or it is dead or expired and not live, or it waits for a person and is live once at most. Whatever is
not published says why.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, Final, LiteralString

import anyio
import anyio.to_thread
import psycopg
from pydantic import SecretStr

from outbox import database
from publisher.accounts import add_account
from publisher.tokens import KeyRing
from tests.chaos.ground import FILE_COUNT, Ground
from tests.chaos.load import choose
from tests.publisher.kinds import name_of

ACCOUNTS: Final = ("instagram", "facebook") * 24
CHANCES: Final = {
    "refused": 0.03,
    "limited": 0.004,
    "dropped": 0.02,
    "denied": 0.03,
    "lost": 0.03,
    "delayed": 0.02,
    "garbled": 0.02,
    "unready": 0.02,
    "unreadable": 0.02,
    "unreached": 0.02,
    "spoiled": 0.02,
    "delay_seconds": 1.2,
}
"""Every class of fault, for about a quarter of all calls. A delayed call outlives its client, and has taken effect
before a look of the relay counts."""
LISTS_LAG_SECONDS: Final = 0.2
RELAYS: Final = {
    "PUBLISHER_LIMIT_SECONDS": "0.5",
    "PUBLISHER_ABSENCES_MAX": "3",
    "PUBLISHER_UNREADABLE_SECONDS": "2",
    # After the intent, in this order: the call begins, within 0.5 s; a delayed one takes effect, 1.2 s later; lists
    # show it, 0.2 s later. A look that finds nothing is believed only then.
    "PUBLISHER_RECONCILE_SECONDS": "2.5",
    "PUBLISHER_LIST_LAG_SECONDS": "2.5",
    "PUBLISHER_RECONCILE_SECONDS_MAX": "2.5",
    "PUBLISHER_GONE_SECONDS": "10",
    "PUBLISHER_PROCESSING_SECONDS_MAX": "30",
    "OUTBOX_ATTEMPTS_MAX": "10",
}
EXPIRING: Final = 0.05
# After so many events have ended, on the average, a relay is killed.
KILLED_EVERY: Final = 15

LEFT: LiteralString = """
select s.id, s.key, s.state, s.reason, nullif(s.due_at, 'infinity'), s.error
from outbox.event_states as s
where s.state in ('new', 'waiting') and (s.reason = 'unknown' and s.due_at = 'infinity') is not true
order by s.id
"""
ENDS: LiteralString = """
select e.payload ->> 'variant_id', s.state, s.reason, s.error
from outbox.events as e join outbox.event_states as s on s.id = e.id
where e.type = 'variant.created'
"""
HELD: LiteralString = "select from outbox.holds where scope = 'key' and key = %s and reason = %s"
RELEASE: LiteralString = "select outbox.release(%s, 'the account is back')"
RELEASE_ALL: LiteralString = """
select outbox.release(h.key, 'the account is back') from outbox.holds as h
where h.scope = 'key' and h.reason = 'account'
"""
COUNTS: LiteralString = "select (select count(*) from outbox.attempts), (select max(id) from outbox.relays)"


TROUBLE_SECONDS_MAX = 5.0
"""An account whose trouble has held nothing by then is out of it: its last event may have been past all calls."""
LEFT_IN_PEACE = 20
"""Where so few events are left that their accounts would be in trouble again and again, they may end."""
# Calls that a restricted account is refused, and in which words.
RESTRICTED: Final = {
    "instagram": (("create_container", "publish_container"), {"code": 25, "subcode": 2207050}),
    "facebook": (
        (
            *("upload_photo", "publish_photo_story", "create_post", "start_video_story", "finish_video_story"),
            *("start_video", "finish_video", "start_reel", "finish_reel"),
        ),
        {"code": 368, "subcode": 1404112},
    ),
}


@dataclass(frozen=True, slots=True)
class Sown:
    """A variant as it was created: the name by which it is counted, and its kind."""

    name: str
    kind: str


async def sow(
    ground: Ground, accounts: Sequence[str], dice: Random, numbers: range, *, expiring: float = EXPIRING
) -> dict[str, Sown]:
    """Create a variant for each number, of any placement; this share of them expires soon. Return them by id."""
    sown: dict[str, Sown] = {}
    async with await database.connect(ground.dsn, application_name="chaos") as connection:
        assert numbers.stop <= FILE_COUNT
        for number in numbers:
            kind, account = choose(accounts, dice)
            expires_seconds = dice.uniform(0.5, 20) if dice.random() < expiring else None
            statement, arguments = kind.variant(account, ground.media_url, f"{number}", expires_seconds=expires_seconds)
            row = await (await connection.execute(statement, arguments)).fetchone()
            assert row is not None
            sown[str(row[0])] = Sown(f"{number}", kind.name)
    return sown


async def kill_a_relay(ground: Ground, dice: Random) -> None:
    """SIGKILL a relay, and start another one in its place."""
    place = dice.choice(ground.places)
    ground.kill(place)
    await ground.start(place)


async def trouble_accounts(ground: Ground, dice: Random, held: Tally[str], stop: anyio.Event) -> None:
    """Have one account after another lose its token, or be restricted, until a person mends that; count the holds."""
    while not stop.is_set():
        # No account is restricted now. A refusal that was looked into meanwhile may hold one all the same.
        async with await database.connect(ground.dsn, application_name="chaos") as connection:
            await connection.execute(RELEASE_ALL)
        events = await anyio.to_thread.run_sync(left, ground.dsn)
        if len(events) < LEFT_IN_PEACE:
            await anyio.sleep(0.5)
            continue
        reason, trouble = dice.choice((("token", without_token), ("account", _restricted)))
        account = dice.choice(events)[1]
        async with trouble(ground, account, dice):
            held[reason] += await until_held(ground, account, reason, seconds=TROUBLE_SECONDS_MAX)


@asynccontextmanager
async def without_token(ground: Ground, account: str, dice: Random) -> AsyncGenerator[None]:
    """Let an account's token be worth nothing. Only the new one that it gets at the end lets its events go on."""
    platform, _, remote_id = account.partition(":")
    state = dice.choice(("expired", "password_changed"))
    await ground.graph.control("PATCH", f"accounts/{remote_id}", {"token_state": state})
    yield
    token = f"EAA{dice.randbytes(20).hex()}"
    await ground.graph.control("PATCH", f"accounts/{remote_id}", {"token": token})
    async with await database.connect(ground.dsn, application_name="chaos") as connection:
        await add_account(
            connection,
            KeyRing(ground.keys),
            platform=platform,
            remote_id=remote_id,
            name="greenhouse",
            token=SecretStr(token),
        )


@asynccontextmanager
async def _restricted(ground: Ground, account: str, _dice: Random) -> AsyncGenerator[None]:
    """Have an account's calls refused until, at the end, a person has acted in the app and releases it."""
    platform, _, remote_id = account.partition(":")
    endpoints, answer = RESTRICTED[platform]
    faults = [
        await ground.graph.fault(endpoint, "error", times=None, account=remote_id, **answer) for endpoint in endpoints
    ]
    yield
    for fault in faults:
        await ground.graph.control("DELETE", f"faults/{fault}")
    # A call that was refused before may hold it once more.
    await until_held(ground, account, "account", seconds=1)
    async with await database.connect(ground.dsn, application_name="chaos") as connection:
        await connection.execute(RELEASE, [account])


async def until_held(ground: Ground, account: str, reason: str, *, seconds: float) -> bool:
    """Wait until the account is held for this reason; tell whether it was within so many seconds."""
    deadline = time.monotonic() + seconds
    async with await database.connect(ground.dsn, application_name="chaos") as connection:
        while not (await (await connection.execute(HELD, [account, reason])).fetchall()):
            if time.monotonic() >= deadline:
                return False
            await anyio.sleep(0.1)
    return True


def left(dsn: str) -> list[Any]:
    """Return the events that have not ended and don't wait for a person."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(LEFT).fetchall()


async def judge(ground: Ground, sown: dict[str, Sown]) -> tuple[dict[str, int], Tally[str]]:
    """Hold each end against what is live; return how many ended how, and why those that were not published did."""
    live = Tally(name_of(post) for post in (await ground.graph.control("GET", "live"))["live"])
    with psycopg.connect(ground.dsn, autocommit=True) as connection:
        ends = {row[0]: row[1:] for row in connection.execute(ENDS).fetchall()}
        [(failed_count, incarnation_count)] = connection.execute(COUNTS).fetchall()
    assert ends.keys() == sown.keys()
    assert live.keys() <= {each.name for each in sown.values()}
    flaws = [
        f"{each.kind} {each.name}: {ends[variant]}, {live[each.name]} live"
        for variant, each in sown.items()
        if not is_sound(ends[variant], live[each.name])
    ]
    assert not flaws, f"{len(flaws)} of {len(sown)}: {flaws[:10]}"
    ended = Tally("unknown" if state == "waiting" else state for state, _, _ in ends.values())
    counts = {**ended, "live": live.total(), "attempts that failed": failed_count, "incarnations": incarnation_count}
    whys = Tally(
        f"{sown[variant].kind}: {reason}: {error}"
        for variant, (state, reason, error) in ends.items()
        if state not in {"published", "expired"}
    )
    return counts, whys


def is_sound(end: tuple[str, str | None, str | None], live_count: int) -> bool:
    """Tell whether an end (state, reason, error) is what the sandbox knows, and says why."""
    state, reason, error = end
    match state:
        case "published":
            return live_count == 1
        case "dead" | "expired":
            return live_count == 0 and bool(reason or error)
        case "waiting":
            return live_count <= 1 and reason == "unknown" and bool(error)
        case _:
            return False
