"""What is told in the end: the numbers, whether each expectation holds, and what to try next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from relay.demo.dispatches import percentile
from relay.demo.display import duration
from relay.demo.stage import Stage
from relay.demo.verdict import Check
from relay.demo.watch import Job


def tell_numbers(console: Console, jobs: Sequence[Job], dispatch_seconds: list[float]) -> None:
    """Print what became of the stories, and how fast a commit reached the handler."""
    published = [job for job in jobs if job.status == "published"]
    rows = [
        ("published", len(published), ""),
        (
            "deferred",
            sum(1 for job in jobs if job.deferrals),
            "not its turn yet; costs no attempt",
        ),
        ("retried", sum(1 for job in jobs if job.attempts), "failed before anything irreversible"),
        ("dead", sum(1 for job in jobs if job.status == "dead"), "gave up; a replay gives it another chance"),
        ("unknown, then reconciled", sum(1 for job in jobs if job.is_reconciled), "live, though no answer said so"),
    ]
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(min_width=24)
    table.add_column(justify="right", min_width=7)
    table.add_column(style="dim")
    for name, count, words in rows:
        table.add_row(name, Text(str(count), "bold"), words)
    if dispatch_seconds:
        for percent in (50, 99):
            words = f"{len(dispatch_seconds)} stories that nothing else held up"
            table.add_row(
                f"commit to dispatch, p{percent}",
                Text(duration(percentile(dispatch_seconds, percent)), "bold"),
                words if percent == 50 else "",
            )
    console.print()
    console.print(table)


def tell_checks(console: Console, checks: Sequence[Check]) -> None:
    """Print a line for each check; the sandbox is the witness."""
    console.print("\nAs the sandbox counted:", highlight=False)
    for check in checks:
        mark, style = ("✔", "green") if check.holds else ("✘", "bold red")
        line = Text.assemble((f"  {mark} ", style), check.expected)
        if not check.holds:
            line.append(f"; found: {check.found}", "red")
        console.print(line, soft_wrap=True)


def tell_next(console: Console, stage: Stage, *, psql: str | None, log: Path, jobs: Sequence[Job]) -> None:
    """Print what to look at and what to try, in another terminal."""
    dead = next((job.id for job in jobs if job.status == "dead"), 1)
    unknown = next((job.id for job in jobs if job.is_reconciled), 1)
    account = next(iter(stage.keys.values()))
    create = f"select social.create_variant('{account}', '{stage.media_url}/story-41.jpg')"
    rows = [
        ("metrics", f"curl {stage.relay_url}/metrics"),
        ("readiness", f"curl {stage.relay_url}/readyz"),
        ("what is live", f"curl {stage.sandbox.url}/_sandbox/live"),
        ("relay's log", f"tail -f {log}"),
        ("the database", f"export OUTBOX_DSN={stage.addresses.operator}"),
        ("its events", ".venv/bin/outbox events"),
        ("a lost answer", f".venv/bin/outbox show {unknown}"),
        ("a dead one", f".venv/bin/outbox replay {dead}"),
    ]
    if psql is not None:
        rows.append(("publish one more", f'{psql} {stage.addresses.application} -c "{create}"'))
    console.print("\nIt all runs on until Ctrl-C. In another terminal:", highlight=False)
    for name, command in rows:
        console.print(Text.assemble((f"  {name:<17}", "dim"), command), soft_wrap=True)


def tell_metrics_url(console: Console, stage: Stage) -> None:
    """Print where the metrics were."""
    console.print(f"\n/metrics was at {stage.relay_url}/metrics", highlight=False, soft_wrap=True)
    console.print("Next: on a terminal, without --once, everything stays up to be looked at.", highlight=False)
