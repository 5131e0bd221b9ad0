"""The performance: the application creates, the relay publishes, the show follows to the end, the verdict is told."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID

import anyio
from anyio.abc import TaskStatus
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from outbox import database
from relay.demo.application import create_stories
from relay.demo.display import HAPPENINGS_MAX, Scene, Show, committed_count, open_show
from relay.demo.script import STORY_COUNT, TROUBLES, Story
from relay.demo.stage import Stage
from relay.demo.summary import tell_checks, tell_metrics_url, tell_next, tell_numbers
from relay.demo.verdict import Check, Evidence, Post, judge
from relay.demo.watch import Job, Watch

LOOK_SECONDS: Final = 0.2
# Far above the usual quarter of a minute: what has not ended by then is told as it stands.
PLAY_SECONDS_MAX: Final = 45.0
SETTLED_METRIC: Final = "outbox_events_settled_total"


@dataclass(slots=True)
class Play:
    """One performance.

    Attributes:
        stage: Where.
        console: Who watches.
        numbers: The number of each variant's story, as the application creates them.
    """

    stage: Stage
    console: Console
    numbers: dict[UUID, int] = field(default_factory=dict)

    async def run(self, watch: Watch) -> list[Job]:
        """Create the stories and follow them until all have ended, or time is up; return their jobs."""
        began_at = time.monotonic()
        with open_show(self.console) as show, anyio.move_on_after(PLAY_SECONDS_MAX):
            async with anyio.create_task_group() as group:
                await group.start(self._create)
                while not await self._look(watch, show, time.monotonic() - began_at):  # noqa: ASYNC110 (frames)
                    await anyio.sleep(LOOK_SECONDS)
        return await watch.jobs()

    async def _create(self, *, task_status: TaskStatus[None]) -> None:
        stage = self.stage

        def created(story: Story, variant_id: UUID) -> None:
            self.numbers[variant_id] = story.number

        dsn = stage.addresses.application
        async with await database.connect(dsn, application_name="demo-application") as connection:
            task_status.started()
            await create_stories(connection, stage.keys, stage.media_url, created)

    async def _look(self, watch: Watch, show: Show, seconds: float) -> bool:
        """Show how things stand; return whether all is done."""
        is_created = len(self.numbers) == STORY_COUNT
        jobs = await watch.jobs()
        happenings = await watch.happenings(HAPPENINGS_MAX)
        show.update(Scene(seconds, len(self.numbers), jobs, happenings, self.stage.keys, self.numbers))
        return is_created and len(jobs) >= committed_count() and all(job.has_ended for job in jobs)


async def perform(stage: Stage, console: Console, *, psql: str | None, log: Path, stays: bool) -> list[Check]:
    """Run the performance to its end and tell how it went; return the checks."""
    async with await database.connect(stage.addresses.operator, application_name="demo-watch") as connection:
        console.print(
            f"\n{STORY_COUNT} stories, a transaction each: one is rolled back, one has no media, "
            f"{len(TROUBLES)} meet a fault of the API.",
            highlight=False,
            soft_wrap=True,
        )
        watch = Watch(connection, stage.dispatches)
        play = Play(stage, console)
        jobs = await play.run(watch)
    checks = judge(await _gather(stage, play.numbers, jobs))
    tell_numbers(console, jobs, watch.dispatch_seconds(jobs))
    tell_checks(console, checks)
    if stays:
        tell_next(console, stage, psql=psql, log=log, jobs=jobs)
    else:
        tell_metrics_url(console, stage)
    return checks


async def _gather(stage: Stage, numbers: Mapping[UUID, int], jobs: list[Job]) -> Evidence:
    live = await stage.sandbox.get("live")
    faults = await stage.sandbox.get("faults")
    return Evidence(
        posts=[Post(str(row["media"]).rpartition("/")[2], row["published_at"]) for row in live["live"]],
        jobs={numbers[job.variant_id]: job for job in jobs if job.variant_id in numbers},
        fault_hits=[fault["hits"] for fault in faults["faults"]],
        settled=settled_counts(await stage.sandbox.metrics(stage.relay_url)),
    )


def settled_counts(exposition: str) -> dict[str, int]:
    """Read the relay's count of ended events by outcome. Pure."""
    samples = [sample for family in text_string_to_metric_families(exposition) for sample in family.samples]
    return {
        sample.labels["outcome"]: int(sample.value)
        for sample in samples
        if sample.name == SETTLED_METRIC and sample.labels["type"] == "variant.created"
    }
