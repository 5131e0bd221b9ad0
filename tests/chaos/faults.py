"""What goes wrong: each fault begins, lasts, and is over when its function returns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from random import Random
from typing import LiteralString

import anyio
import psycopg

from outbox import database
from outbox.errors import DatabaseUnsuitable
from tests.chaos.ground import LEASE_SECONDS, Ground, Place
from tests.proxy import Mode
from tests.publisher.kinds import KIND

Fault = Callable[[Ground, Random], Coroutine[None, None, None]]

PUBLISHING = tuple(dict.fromkeys(kind.publishing for kind in KIND.values()))
PREPARING_AND_LOOKING = tuple(
    dict.fromkeys(call for kind in KIND.values() for call in kind.calls if call not in PUBLISHING)
)

TERMINATE_ONE: LiteralString = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and application_name like 'outbox-%%'
order by md5(pid || %s) limit %s
"""


async def kill_a_relay(ground: Ground, dice: Random) -> None:
    """SIGKILL, and another process in its place after a while."""
    async with _a_place(ground, dice) as place:
        ground.kill(place)
        await anyio.sleep(dice.choice((0, 0.5, LEASE_SECONDS + 1)))
        await ground.start(place)


async def restart_a_relay(ground: Ground, dice: Random) -> None:
    """SIGTERM, and another process in its place at once, as in a rolling restart."""
    async with _a_place(ground, dice) as place:
        ground.stop(place)
        await ground.start(place)


async def freeze_a_relay(ground: Ground, dice: Random) -> None:
    """SIGSTOP for shorter or longer than the lease, then SIGCONT: a zombie wakes."""
    async with _a_place(ground, dice) as place:
        ground.freeze(place)
        await anyio.sleep(dice.choice((0.3, LEASE_SECONDS + 1.5)))
        ground.thaw(place)


async def cut_off_a_relay(ground: Ground, dice: Random) -> None:
    """Its packets go nowhere, for shorter or longer than the lease; then they arrive."""
    await _network(ground, dice, Mode.BLACK_HOLE, dice.choice((0.3, LEASE_SECONDS + 1.5)))


async def reset_a_relays_connections(ground: Ground, dice: Random) -> None:
    """Its connections are reset, and new ones too for a moment."""
    await _network(ground, dice, Mode.RESET, 0.3)


async def slow_a_relays_network(ground: Ground, dice: Random) -> None:
    """Every packet takes its time."""
    await _network(ground, dice, Mode.LATENCY, 1.5, latency_seconds=dice.choice((0.05, 0.2)))


async def refuse_a_relay(ground: Ground, dice: Random) -> None:
    """No new connection is accepted, and the old ones are reset."""
    async with _a_place(ground, dice) as place:
        await place.proxy.use(Mode.RESET)
        await place.proxy.use(Mode.REFUSE)
        await anyio.sleep(1)
        await place.proxy.use(Mode.PASS)


async def restart_postgresql(ground: Ground, dice: Random) -> None:
    """In order."""
    await ground.restart_server("fast")


async def crash_postgresql(ground: Ground, dice: Random) -> None:
    """At once, with recovery at the start."""
    await ground.restart_server("immediate")


async def terminate_backends(ground: Ground, dice: Random) -> None:
    """Some of the relays' connections are ended by an administrator."""
    try:
        async with await database.connect(ground.dsn, application_name="chaos") as connection:
            await connection.execute(TERMINATE_ONE, [str(dice.random()), dice.choice((1, 1, 3, 100))])
    except (psycopg.Error, DatabaseUnsuitable):
        pass  # nothing was there to be terminated


async def lose_answers_of_graph(ground: Ground, dice: Random) -> None:
    """The next irreversible calls take effect, and nobody hears of it; or they fail and do not."""
    for _ in range(dice.randint(1, 3)):
        await ground.graph.fault(
            dice.choice(PUBLISHING),
            dice.choice(("apply_then_drop", "apply_then_error", "drop")),
            status=500,
            code=2,
        )


async def break_graph(ground: Ground, dice: Random) -> None:
    """The next calls that prepare or look fail."""
    endpoint = dice.choice(PREPARING_AND_LOOKING)
    action = dice.choice(("error", "drop", "apply_then_drop", "delay"))
    await ground.graph.fault(endpoint, action, times=dice.randint(1, 4), status=500, code=2, delay_seconds=0.5)


FAULTS: tuple[Fault, ...] = (
    kill_a_relay,
    kill_a_relay,
    restart_a_relay,
    restart_a_relay,
    freeze_a_relay,
    cut_off_a_relay,
    reset_a_relays_connections,
    slow_a_relays_network,
    refuse_a_relay,
    restart_postgresql,
    crash_postgresql,
    terminate_backends,
    lose_answers_of_graph,
    lose_answers_of_graph,
    break_graph,
)


async def _network(ground: Ground, dice: Random, mode: Mode, seconds: float, *, latency_seconds: float = 0) -> None:
    async with _a_place(ground, dice) as place:
        await place.proxy.use(mode, latency_seconds=latency_seconds)
        await anyio.sleep(seconds)
        await place.proxy.use(Mode.PASS)


@asynccontextmanager
async def _a_place(ground: Ground, dice: Random) -> AsyncIterator[Place]:
    place = dice.choice(ground.places)
    async with place.taken:
        yield place
