"""Faults and crashes at random places, from a seed: never two stories, and never a success without one."""

from __future__ import annotations

import random

import pytest

from outbox.outcome import Dead, Hold, Published
from tests.publisher.stage import KINDS, CrashAt, Stage, open_stage, quick
from tests.publisher.test_crashes import CALLS, REPUBLISH

pytestmark = pytest.mark.anyio
EVENT_COUNT = 12
ACTIONS = ("error", "apply_then_error", "apply_then_drop", "drop")


@pytest.mark.parametrize("seed", range(8))
async def test_chaos_leaves_one_story_for_each_success(database: str, seed: int) -> None:
    """Two faults and a crash for every event; a list lags a little, and for less time than is waited for it."""
    dice = random.Random(seed)
    async with open_stage(database, quick(reconcile_seconds=1.5, list_lag_seconds=1.5)) as stage:
        await wreak(stage, dice)


async def wreak(stage: Stage, dice: random.Random) -> None:
    await stage.graph.use(republish=dice.choice(REPUBLISH), stories_lag_seconds=dice.choice((0, 0.05)))
    for number in range(EVENT_COUNT):
        kind = dice.choice(KINDS)
        file = f"{number}.{'jpg' if kind.endswith('image') else 'mp4'}"
        stage.files[file] = stage.files["story.jpg" if kind.endswith("image") else "story.mp4"]
        for _ in range(2):
            await stage.graph.fault(dice.choice(CALLS[kind]), dice.choice(ACTIONS), skip=dice.randrange(3))
        crash = CrashAt(dice.randint(1, 8), durable=dice.random() < 0.5)
        play = await stage.play(await stage.approve(kind, file=file), crash=crash)
        await stage.graph.control("DELETE", "faults")
        live_count = await stage.graph.live_count(f"/{file}")
        if isinstance(play.end, Published):
            assert live_count == 1, (kind, crash, play.outcomes)
        else:
            assert live_count == 0 or not isinstance(play.end, Dead | Hold), (kind, crash, play.outcomes)
            assert live_count <= 1, (kind, crash, play.outcomes)
