"""`outbox completion`: what a shell evaluates to complete commands, options and their values."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class ShellOption(StrEnum):
    """The shells that are known."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[ShellOption, typer.Argument(help="Which.")]) -> None:
    """Print the completion script of a shell: eval "$(outbox completion bash)"."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # noqa: PLC0415 (help needs none)

    print(get_completion_script(prog_name="outbox", complete_var="_OUTBOX_COMPLETE", shell=shell.value))
