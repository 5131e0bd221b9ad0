"""Thousands of variants of all placements, and a Graph API that fails in every way that the sandbox knows.

What a relay believes afterwards is compared with what the sandbox says is live: a variant is published and live
exactly once, or it is dead or expired and not live, or it waits for a person and is live once at most. Whatever is
not published says why.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, LiteralString

import psycopg

from outbox import database
from tests.chaos.ground import Ground
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
    "PUBLISHER_RECONCILE_SECONDS_MAX": "2.5",
    "PUBLISHER_GONE_SECONDS": "10",
    "OUTBOX_ATTEMPTS_MAX": "10",
}
EXPIRING: Final = 0.05
# After so many events have ended, on the average, a relay is killed.
KILLED_EVERY: Final = 15

LEFT: LiteralString = """
select s.id, s.key, s.state, s.reason, s.due_at, s.error
from outbox.event_states as s
where s.state in ('new', 'waiting') and (s.reason = 'unknown' and s.due_at = 'infinity') is not true
order by s.id
"""
ENDS: LiteralString = """
select e.payload ->> 'variant_id', s.state, s.reason, s.error
from outbox.events as e join outbox.event_states as s on s.id = e.id
where e.type = 'variant.created'
"""
COUNTS: LiteralString = "select (select count(*) from outbox.attempts), (select max(id) from outbox.relays)"


@dataclass(frozen=True, slots=True)
class Sown:
    """A variant as it was created: the name by which it is counted, and its kind."""

    name: str
    kind: str


async def sow(ground: Ground, accounts: Sequence[str], dice: Random, numbers: range) -> dict[str, Sown]:
    """Create a variant for each number, of any placement; a few expire soon. Return them by id."""
    sown: dict[str, Sown] = {}
    async with await database.connect(ground.dsn, application_name="chaos") as connection:
        for number in numbers:
            kind, account = choose(accounts, dice)
            expires_seconds = dice.uniform(0.5, 20) if dice.random() < EXPIRING else None
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
