"""Calls the command line: in this process, which is quick, or as a program of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from relay.cli import main
from tests.processes import ROOT

PROGRAM: Final = Path(sys.prefix) / "bin" / "outbox"
BENCHMARKS: Final = ("drain", "latency", "fairness", "emit", "idle", "horizon", "pipeline", "recovery", "traces")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What it printed."""
        return self.out.splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What it printed, one JSON object a line."""
        return [json.loads(line) for line in self.lines]

    def sentence(self) -> str:
        """The one sentence of a command that failed: one line on stderr, nothing on stdout, no traceback."""
        assert self.out == ""
        assert "Traceback" not in self.err
        [line] = self.err.splitlines()
        assert line.startswith("outbox: ")
        return line.removeprefix("outbox: ")


class Outbox:
    """The command line in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def set(self, **variables: str) -> None:
        """Set environment variables."""
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def __call__(self, *arguments: object, stdin: str = "") -> Answer:
        """Run a command to its end."""
        self._capsys.readouterr()
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = main([str(argument) for argument in arguments])
        captured = self._capsys.readouterr()
        return Answer(status, captured.out, captured.err)


@contextlib.contextmanager
def started(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The installed program with pipes of text; killed at the end if it still runs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OUTBOX_", "PUBLISHER_", "PG"))}
    with subprocess.Popen(
        [PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**kept, **variables},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(*arguments: str, **variables: str) -> Answer:
    """The installed program, to its end."""
    with started(*arguments, **variables) as process:
        out, err = process.communicate(timeout=120)
        return Answer(process.returncode, out, err)


def watch_top(dsn: str, is_enough: Callable[[str], bool]) -> str:
    """What `outbox top` shows on a terminal of its own, until it is enough and a Ctrl-C ends it."""
    terminal, side = pty.openpty()
    environment = {**os.environ, "OUTBOX_DSN": dsn, "TERM": "xterm", "COLUMNS": "140", "LINES": "50"}
    with subprocess.Popen([PROGRAM, "top", "--every", "0.2"], stdin=side, stdout=side, env=environment) as process:
        os.close(side)
        try:
            shown = read_terminal(terminal, is_enough)
            process.send_signal(signal.SIGINT)
            shown += read_terminal(terminal, lambda _: process.poll() is not None)
            assert process.wait(timeout=120) == 130
        finally:
            process.kill()
            os.close(terminal)
    return shown


def read_terminal(terminal: int, is_enough: Callable[[str], bool], *, within_seconds: float = 120) -> str:
    """What a terminal shows, until it is enough."""
    text = ""
    deadline = time.monotonic() + within_seconds
    while not is_enough(text):
        assert time.monotonic() < deadline, text
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                text += os.read(terminal, 65_536).decode(errors="replace")
            except OSError:  # its last user has gone
                break
    return text
