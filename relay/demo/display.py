"""Shows the stories on their way: a live picture on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from relay.demo.script import ACCOUNTS, STORIES, Account, Fate
from relay.demo.watch import Happening, Job

HAPPENINGS_MAX = 8
LINE_SECONDS = 1.0
PLATFORM_NAMES = {"instagram": "Instagram", "facebook": "Facebook"}
_STYLES = {"published": "green", "reconciled": "green", "dead": "red", "unknown": "magenta", "retry": "yellow"}
_WAITING = "cyan"


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to see at one moment.

    Attributes:
        seconds: Since the first story.
        created_count: Stories that the application has created so far, the rolled back one included.
        jobs: All events.
        happenings: The last ones that did not go straight on, oldest first.
        keys: The key of each account.
        numbers: The number of each variant's story.
    """

    seconds: float
    created_count: int
    jobs: Sequence[Job]
    happenings: Sequence[Happening]
    keys: Mapping[Account, str]
    numbers: Mapping[UUID, int]

    @property
    def counts(self) -> Counter[str]:
        """How many events there are in each state."""
        return Counter(job.status for job in self.jobs)

    def number(self, event_id: int) -> str:
        """The number of an event's story."""
        job = next((job for job in self.jobs if job.id == event_id), None)
        return f"{self.numbers.get(job.variant_id, 0):02}" if job is not None else ""


class Show(Protocol):
    """Takes scene after scene."""

    def update(self, scene: Scene) -> None:
        """Show a scene."""


@contextmanager
def open_show(console: Console) -> Iterator[Show]:
    """Open the show that suits a console; what it showed last stays there."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield Lines(console)
        return
    with Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        yield Picture(live)


class Picture:
    """A bar, a row for each account, and what happened last."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._progress = Progress(
            TextColumn("stories settled"),
            BarColumn(bar_width=40, complete_style="green", finished_style="green"),
            MofNCompleteColumn(),
            TextColumn("{task.fields[aside]}", style="dim"),
        )
        self._task = self._progress.add_task("", total=committed_count(), aside="")

    def update(self, scene: Scene) -> None:
        """Draw a scene over the last one."""
        ended = sum(1 for job in scene.jobs if job.has_ended)
        self._progress.update(
            self._task, completed=ended, aside=f"{scene.created_count} created   {scene.seconds:4.1f} s"
        )
        rows: list[RenderableType] = [Text(), self._progress.get_renderable(), Text(), accounts(scene)]
        if ended < committed_count():
            rows += [Text(), happenings(scene)]
        self._live.update(Group(*rows), refresh=True)


class Lines:
    """A line a second, when something has changed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ""
        self._last_at = -LINE_SECONDS

    def update(self, scene: Scene) -> None:
        """Print a scene unless it is as the last one, or too soon after it."""
        line = _sentence(scene)
        if line == self._last or scene.seconds - self._last_at < LINE_SECONDS:
            return
        self._last, self._last_at = line, scene.seconds
        self._console.print(f"{scene.seconds:6.1f} s  {line}", highlight=False, soft_wrap=True)


def accounts(scene: Scene) -> RenderableType:
    """A row for each account."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column("account", width=14)
    table.add_column("platform", width=9)
    for heading in ("in hand", "published", "dead", "last took"):
        table.add_column(heading, justify="right", width=len(heading))
    table.add_column("waiting", ratio=1, no_wrap=True, overflow="ellipsis")
    for account in ACCOUNTS:
        jobs = [job for job in scene.jobs if job.key == scene.keys[account]]
        counts = Counter(job.status for job in jobs)
        reasons = Counter(job.reason or "" for job in jobs if job.status == "waiting")
        table.add_row(
            account.name,
            PLATFORM_NAMES[account.platform],
            _number(counts["new"], "default"),
            _number(counts["published"], "green"),
            _number(counts["dead"], "red"),
            _last_latency(jobs),
            Text(", ".join(f"{count} {_words(reason)}" for reason, count in sorted(reasons.items())), _WAITING),
        )
    return table


def happenings(scene: Scene) -> RenderableType:
    """The last things that did not go straight on."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0), expand=True)
    table.add_column(width=8, style="dim")
    table.add_column(width=12)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis", style="dim")
    for each in scene.happenings:
        table.add_row(
            f"story {scene.number(each.event_id)}",
            Text(_words(each.what), _STYLES.get(each.what, _WAITING)),
            Text(each.words),
        )
    for _ in range(HAPPENINGS_MAX - len(scene.happenings)):
        table.add_row("", "", "")
    return table


def committed_count() -> int:
    """How many stories are to be settled: all but those that are rolled back."""
    return sum(1 for story in STORIES if story.fate is not Fate.ROLLED_BACK)


def _sentence(scene: Scene) -> str:
    counts = scene.counts
    reasons = Counter(_words(job.reason or "") for job in scene.jobs if job.status == "waiting")
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return (
        f"created {scene.created_count:2}   published {counts['published']:2}   in hand {counts['new']:2}   "
        f"dead {counts['dead']}   waiting {counts['waiting']}{f' ({why})' if why else ''}"
    )


def _last_latency(jobs: Sequence[Job]) -> str:
    settled = max((job for job in jobs if job.settled_at is not None), key=_settled_at, default=None)
    return duration(settled.latency_seconds) if settled is not None and settled.latency_seconds is not None else ""


def _settled_at(job: Job) -> float:
    return 0.0 if job.settled_at is None else job.settled_at.timestamp()


def duration(seconds: float) -> str:
    """A duration for people."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _number(count: int, style: str) -> Text:
    return Text(str(count), style if count else "dim")


def _words(reason: str) -> str:
    return reason.replace("_", " ")
