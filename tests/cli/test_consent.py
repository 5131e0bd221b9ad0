"""A question before many events are touched, on a terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time

import pytest

from tests.cli.calling import PROGRAM, read_terminal
from tests.operations.histories import Histories

PRESSED_AGAIN = 10.0
"""Seconds."""


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        (b"y\n", (0, "will be cancelled", 21)),
        (b"n\n", (1, "stopped, nothing was done", 0)),
        (b"\n", (1, "stopped, nothing was done", 0)),
        (b"\x04", (130, "stopped, nothing was done", 0)),
        (signal.SIGINT, (130, "stopped, nothing was done", 0)),
    ],
    ids=["yes", "no", "nothing", "end of input", "Ctrl-C"],
)
def test_only_a_yes_goes_on(
    database: str, histories: Histories, answer: bytes | signal.Signals, end: tuple[int, str, int]
) -> None:
    """Whoever says no has failed, whoever presses Ctrl-C was interrupted; nothing is done by either."""
    status, said, cancelled = end
    ids = [str(histories.emit()) for _ in range(21)]
    terminal, side = pty.openpty()
    environment = {**os.environ, "OUTBOX_DSN": database, "TERM": "xterm"}
    with subprocess.Popen([PROGRAM, "cancel", *ids], stdin=side, stdout=side, stderr=side, env=environment) as process:
        os.close(side)
        try:
            shown = read_terminal(terminal, lambda text: "Cancel 21 events? [y/N]: " in text)
            if isinstance(answer, bytes):
                os.write(terminal, answer)
            else:
                process.send_signal(answer)
            pressed_at = time.monotonic()

            def has_ended(_text: str) -> bool:
                nonlocal pressed_at
                ended = process.poll() is not None
                # A signal that comes just before Python reads is noticed when it has read: a person presses once more.
                if not ended and isinstance(answer, signal.Signals) and time.monotonic() - pressed_at > PRESSED_AGAIN:
                    pressed_at = time.monotonic()
                    process.send_signal(answer)
                return ended

            shown += read_terminal(terminal, has_ended)
            assert (process.wait(timeout=120), said in shown) == (status, True), shown
        finally:
            process.kill()
            os.close(terminal)
    assert "Traceback" not in shown
    assert histories.fetch("select count(*) from outbox.operations where operation = 'cancel'") == [(cancelled,)]
