"""The shell completes commands, options and their values."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess

import pytest

from tests.cli.calling import PROGRAM, read_terminal

COMPLETE = """
eval "$(outbox completion bash)"
COMP_WORDS=($WORDS)
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_outbox_completion outbox
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed: apt-get install bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("outbox repl", {"replay", "replays"}),
        ("outbox accounts gen", {"generate-key"}),
        ("outbox events --wat", {"--watch"}),
        ("outbox events --state d", {"dead"}),
    ],
)
def test_bash_completes(words: str, expected: set[str]) -> None:
    """As it does for a person who presses tab."""
    environment = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "WORDS": words}
    answer = subprocess.run(["bash", "-c", COMPLETE], capture_output=True, text=True, env=environment, check=True)
    assert set(answer.stdout.split()) == expected, answer.stderr


@pytest.mark.skipif(
    shutil.which("zsh") is None, reason="zsh is not installed: apt-get install zsh, or .ci/run, brings it"
)
def test_zsh_completes_as_it_comes() -> None:
    """On a terminal, in a shell that nobody has set up for completion, at the press of tab."""
    terminal, side = pty.openpty()
    environment = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "TERM": "xterm", "PS1": "ready> "}
    with subprocess.Popen(["zsh", "-f", "-i"], stdin=side, stdout=side, stderr=side, env=environment) as process:
        os.close(side)
        try:
            shown = read_terminal(terminal, lambda text: "ready> " in text)
            os.write(terminal, b'eval "$(outbox completion zsh)"; print set up: $?\n')
            shown += read_terminal(terminal, lambda text: "set up: 0" in text)
            os.write(terminal, b"outbox replays --l\t")
            shown += read_terminal(terminal, lambda text: "--limit" in text)
            os.write(terminal, b"\x15outbox accounts gen\t")
            shown += read_terminal(terminal, lambda text: "generate-key" in text)
        finally:
            process.kill()
            os.close(terminal)
    assert "not found" not in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str) -> None:
    """To be evaluated in its start-up file."""
    answer = subprocess.run([PROGRAM, "completion", shell], capture_output=True, text=True, check=True)
    assert "_OUTBOX_COMPLETE" in answer.stdout
