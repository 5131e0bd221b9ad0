"""What every change has in common: --reason, --dry-run, and a question before it touches many events."""

from __future__ import annotations

import sys
from typing import Annotated, TypeAlias

import typer

from relay.cli.printing import say

UNASKED_MAX = 20
"""More events than these are not touched before somebody says yes."""

ReasonOption: TypeAlias = Annotated[str | None, typer.Option("--reason", help="Why, for those who read it later.")]
DryRunFlag: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; do nothing.")]
YesFlag: TypeAlias = Annotated[bool, typer.Option("--yes", help=f"Do not ask before more than {UNASKED_MAX} events.")]


def ask(verb: str, count: int, *, unasked: bool) -> None:
    """Ask before so many events are touched; without a terminal to ask on, --yes must have been given.

    Args:
        verb: What would be done to them: replay, cancel.
        count: How many.
        unasked: Somebody has said yes, or nothing will be done.
    """
    if unasked or count <= UNASKED_MAX:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"expected --yes to {verb} more than {UNASKED_MAX} events, found {count} without it")
    confirm(f"{verb.capitalize()} {count} events?")


def confirm(question: str) -> None:
    """Ask on the terminal; anything but a yes ends the command, with status 1."""
    if not typer.confirm(question, err=True):
        say("outbox: stopped, nothing was done")
        raise typer.Exit(1)
