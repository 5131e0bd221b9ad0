"""What a person sees while a benchmark runs: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn


class Tell(Protocol):
    """Takes how far something has come: `tell("drained", 500, 1000)`."""

    def __call__(self, what: str, count: int, total: int, /) -> None:
        """Take it."""


def keep_silent(_what: str, _count: int, _total: int, /) -> None:
    """Tell nobody: a `Tell`."""


@contextmanager
def open_progress() -> Iterator[Tell]:
    """Show progress on stderr until the end of the block, a bar for each thing that is told of.

    Nothing is drawn between two calls: a thread that draws would compete with what is measured.
    """
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield keep_silent
        return
    columns = (TextColumn("{task.description:>12}"), BarColumn(bar_width=40), MofNCompleteColumn())
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        yield _Bars(progress, {})


@dataclass(frozen=True, slots=True)
class _Bars:
    progress: Progress
    tasks: dict[str, TaskID]

    def __call__(self, what: str, count: int, total: int, /) -> None:
        if what not in self.tasks:
            self.tasks[what] = self.progress.add_task(what)
        self.progress.update(self.tasks[what], completed=count, total=total, refresh=True)
