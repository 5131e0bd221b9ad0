"""The demo as people run it, on a real PostgreSQL, to its end or not."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.demo.runs import ends, running, server_pid, temporary_directory

UNDER_WAY = r"published +[1-9]"


@dataclass(frozen=True, slots=True)
class Performance:
    """A whole run, in the directory where another one was killed."""

    status: int
    out: str
    error: str
    killed_server_ended: bool
    left_behind: list[str]


@pytest.fixture(scope="module")
def performance() -> Iterator[Performance]:
    with temporary_directory() as directory:
        with running(directory) as killed:
            killed.read_until(UNDER_WAY)
            pid = server_pid(directory)
            killed.process.send_signal(signal.SIGKILL)
            killed.process.wait()
        killed_server_ended = ends(pid)
        with running(directory) as run:
            status, out, error = run.finish()
        left_behind = [path.name for path in directory.iterdir()]
        yield Performance(status, out, error, killed_server_ended, left_behind)


def test_every_check_holds_and_the_exit_status_is_0(performance: Performance) -> None:
    """A whole run finds everything as expected, says so, and prints nothing else."""
    assert (performance.status, performance.error) == (0, ""), performance.out
    assert performance.out.count("✔") == 4 + 9
    assert "✘" not in performance.out
    assert "each of the 38 stories that were committed went live exactly once" in performance.out


def test_the_summary_tells_each_way_an_event_can_take(performance: Performance) -> None:
    """Published, deferred, retried, dead, unknown then reconciled, and both percentiles are told."""
    numbers = dict(re.findall(r"^(\S.*?) {2,}(\d+)(?: ms)?(?: |$)", performance.out, re.MULTILINE))
    assert numbers["published"] == "38"
    assert numbers["dead"] == "1"
    assert numbers["unknown, then reconciled"] == "3"
    assert numbers["retried"] == "2"
    assert int(numbers["deferred"]) > 0
    assert "commit to dispatch, p50" in numbers
    assert "commit to dispatch, p99" in performance.out
    assert re.search(r"http://127\.0\.0\.1:\d+/metrics", performance.out)


def test_what_is_printed_holds_no_token_and_no_control_code(performance: Performance) -> None:
    """Without a terminal there are plain lines, and never a token."""
    assert not re.search(r"EAA|IGAA|access_token|\x1b", performance.out)


def test_a_killed_run_leaves_no_server_and_the_next_one_sweeps(performance: Performance) -> None:
    """After SIGKILL the server ends by itself, and the next run removes both runs' directories."""
    assert performance.killed_server_ended
    assert performance.left_behind == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_ends_it_cleanly(number: signal.Signals, status: int) -> None:
    """A run that is interrupted does not go on to its end, and leaves no traceback, process or directory."""
    with temporary_directory() as directory, running(directory) as run:
        run.read_until(UNDER_WAY)
        pid = server_pid(directory)
        run.process.send_signal(number)
        found, out, error = run.finish()
        assert (found, error) == (status, ""), out
        assert ends(pid)
        assert list(directory.iterdir()) == []
