"""Writers: many connections, each of which runs one statement again and again for some seconds.

pgbench where it is found; else a process of Python, which reaches its own ceiling sooner than the server's.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from outbox.errors import OutboxError
from relay.redaction import redact

PATIENCE_SECONDS: Final = 30.0

_PROCESSED: Final = re.compile(r"number of transactions actually processed: (\d+)")
_RATE: Final = re.compile(r"tps = ([0-9.]+) \(without initial connection time\)")


@dataclass(frozen=True, slots=True)
class Written:
    """What writers managed: transactions, and the seconds that they took without connecting."""

    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Writers:
    """Writers on one database.

    Attributes:
        dsn: Its address.
        connections: How many write at once.
        pgbench: The program; None writes from Python.
    """

    dsn: str = field(repr=False)
    connections: int
    pgbench: str | None

    @property
    def description(self) -> str:
        """Who writes, for people."""
        return "pgbench" if self.pgbench is not None else "Python: no pgbench was found, and Python may be the limit"

    def write(self, statement: str, seconds: float) -> Written:
        """Run a statement, a transaction each, on all connections until the seconds are over.

        Raises:
            OutboxError: They can't connect, or the server refuses the statement; one sentence.
        """
        return self._by_python(statement, seconds) if self.pgbench is None else self._by_pgbench(statement, seconds)

    def _by_pgbench(self, statement: str, seconds: float) -> Written:
        assert self.pgbench is not None
        whole_seconds = max(1, round(seconds))
        with tempfile.TemporaryDirectory(prefix="outbox-bench-") as directory:
            script = Path(directory, "statement.sql")
            script.write_text(" ".join(statement.split()), encoding="utf-8")
            threads = min(self.connections, os.cpu_count() or 1)
            answer = _run(
                [
                    *(self.pgbench, "--no-vacuum", "--protocol=prepared", f"--file={script}"),
                    *(f"--client={self.connections}", f"--jobs={threads}", f"--time={whole_seconds}"),
                ],
                _libpq_environment(self.dsn),
                seconds=whole_seconds,
            )
        processed, rate = _PROCESSED.search(answer), _RATE.search(answer)
        if processed is None or rate is None or not float(rate[1]):
            raise OutboxError(f"expected figures from {self.pgbench}, found: {redact(answer.strip()[-200:])}")
        return Written(int(processed[1]), int(processed[1]) / float(rate[1]))

    def _by_python(self, statement: str, seconds: float) -> Written:
        order = {"dsn": self.dsn, "connections": self.connections, "statement": statement, "seconds": seconds}
        answer = _run([sys.executable, "-P", "-m", "relay.bench.writer_program"], {}, seconds=seconds, order=order)
        found = orjson.loads(answer)
        return Written(found["count"], found["seconds"])


def _run(
    command: list[str], environment: dict[str, str], *, seconds: float, order: dict[str, object] | None = None
) -> str:
    try:
        answer = subprocess.run(
            command,
            input=b"" if order is None else orjson.dumps(order),
            capture_output=True,
            env={**os.environ, **environment},
            timeout=seconds + PATIENCE_SECONDS,
            start_new_session=True,  # a Ctrl-C in the terminal is for us alone, and we end what we started
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OutboxError(f"expected the writers to end after {seconds:g} s, found them still at work") from None
    except OSError as error:
        raise OutboxError(f"expected to start {command[0]}, found: {error.strerror}") from None
    if answer.returncode != 0:
        said = [line for line in answer.stderr.decode(errors="replace").splitlines() if "error" in line.lower()]
        raise OutboxError(
            f"expected the writers to write, found: {redact(said[0]) if said else f'exit status {answer.returncode}'}"
        )
    return answer.stdout.decode()


def _libpq_environment(dsn: str) -> dict[str, str]:
    """Return an address as libpq's variables: arguments are everybody's to read."""
    names = {option.keyword.decode(): option.envvar for option in pq.Conninfo.get_defaults()}
    return {
        variable.decode(): str(value)
        for keyword, value in conninfo_to_dict(dsn).items()
        if (variable := names.get(keyword)) is not None
    }
