"""The demo: the main job for real, on this machine alone.

main()               the whole run, and its exit status
    script.py        the stories and what goes wrong with some of them: data
    settings.py      how each part is set, in code
    stage.py         PostgreSQL's roles, media server, sandbox, relay
      media.py         serves pictures and videos
      pictures.py      draws the pictures
      dispatches.py    notes when the relay calls its handler
    play.py          the performance, to its end
      application.py   creates the stories, a transaction each
      watch.py         looks at the database
      display.py       shows it
      verdict.py       whether everything came out as expected: pure
      summary.py       tells the end

Only PostgreSQL is a process of its own. Everything listens on free ports of the loopback address, and everything that
is written is in the server's temporary directory, which goes with it.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import anyio
from anyio.abc import TaskStatus
from rich.console import Console
from rich.text import Text

from relay import logs
from relay.demo.play import perform
from relay.demo.stage import POSTGRES_SETTINGS, Addresses, prepare, set_stage
from schema.binaries import find_binaries
from schema.embedded import EmbeddedPostgres

__all__ = ["main"]

DIFFERENT = 1
SIGNALLED = 128
ERROR_LINES_MAX = 20


def main(*, once: bool = False) -> int:
    """Run the demo.

    Args:
        once: End by itself, as it does without a terminal.

    Returns:
        0 when everything came out as expected; 1 when something did not; 128 + the signal that ended it before.

    Raises:
        OutboxError: A part can't start; one sentence, in an exception group where other parts ran.
        SchemaError: PostgreSQL can't, EmbeddedPostgresError among them.
        SandboxError: The sandbox can't; in a group as well.
    """
    console = Console(file=sys.stdout, force_terminal=sys.stdout.isatty())
    stays = console.is_terminal and not once
    try:
        psql = _psql()
        with _postgres(console) as postgres:
            addresses = prepare(postgres)
            log = postgres.directory / "relay.log"
            with log.open("w", encoding="utf-8") as file, contextlib.redirect_stderr(file):
                logs.configure("json", "info")
                run = Run(console, addresses, log, psql, stays)
                status = anyio.run(run.perform, backend_options={"use_uvloop": find_spec("uvloop") is not None})
            if status == DIFFERENT:
                _tell_errors(console, log)
    except KeyboardInterrupt:
        status = SIGNALLED + signal.SIGINT
    if status > SIGNALLED:
        console.print("\nstopped; nothing is left behind", highlight=False)
    return status


@dataclass(slots=True)
class Run:
    """What happens while PostgreSQL runs."""

    console: Console
    addresses: Addresses
    log: Path
    psql: str | None
    stays: bool
    _signal: int = 0

    async def perform(self) -> int:
        """Perform, stay if asked to, and return the exit status."""
        status = None
        async with anyio.create_task_group() as group:
            on_stage = anyio.CancelScope()
            await group.start(self._obey_signals, on_stage, group.cancel_scope)
            async with set_stage(self.addresses, lambda line: _tell(self.console, line)) as stage:
                with on_stage:
                    checks = await perform(stage, self.console, psql=self.psql, log=self.log, stays=self.stays)
                    status = 0 if all(check.holds for check in checks) else DIFFERENT
                    if self.stays:
                        await anyio.sleep_forever()
            group.cancel_scope.cancel()
        return SIGNALLED + self._signal if status is None else status

    async def _obey_signals(
        self, on_stage: anyio.CancelScope, everything: anyio.CancelScope, *, task_status: TaskStatus[None]
    ) -> None:
        """A first signal ends the performance, and the stage is cleared in order; a second one ends all at once."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                (everything if self._signal else on_stage).cancel()
                self._signal = number


@contextlib.contextmanager
def _postgres(console: Console) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres.start(settings=POSTGRES_SETTINGS) as postgres:
        _tell(console, f"PostgreSQL {postgres.version}, fsync on, in {postgres.directory}")
        yield postgres


def _psql() -> str | None:
    """The client to name: the machine's own, else the one that came with the server."""
    if shutil.which("psql") is not None:
        return "psql"
    return shutil.which("psql", path=find_binaries().directory)


def _tell(console: Console, line: str) -> None:
    console.print(Text.assemble(("✔ ", "green"), line), soft_wrap=True)


def _tell_errors(console: Console, log: Path) -> None:
    """Print what the relay's log holds of errors, before it goes with its directory."""
    lines = log.read_text(encoding="utf-8").splitlines()
    errors = [line for line in lines if '"level":"error"' in line or not line.startswith("{")]
    for line in errors[-ERROR_LINES_MAX:]:
        console.print(Text(line, "red"), soft_wrap=True)
