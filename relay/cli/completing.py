"""`outbox completion`: what a shell evaluates to complete commands, options and their values."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

ZSH_PREAMBLE = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }"
"""A shell that was not set up for completion, as zsh comes, has no compdef."""


class ShellOption(StrEnum):
    """The shells that are known."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[ShellOption, typer.Argument(help="Which.")]) -> None:
    """Print the completion script of a shell: eval "$(outbox completion bash)"."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # noqa: PLC0415 (help needs none)

    if shell is ShellOption.ZSH:
        print(ZSH_PREAMBLE)
    print(get_completion_script(prog_name="outbox", complete_var="_OUTBOX_COMPLETE", shell=shell.value))
