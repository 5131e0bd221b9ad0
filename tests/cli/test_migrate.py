"""`outbox migrate` says what it did, and does it once."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from schema.binaries import find_binaries
from schema.migrate import plan
from schema.scripts import load
from tests.cli.calling import Outbox

MIGRATIONS = [migration.name for migration in load().migrations]
FUNCTIONS = [function.name for function in load().functions]


@pytest.fixture
def empty(unset: Outbox, empty_database: str) -> Outbox:
    """The command line on a database without the schema."""
    unset.set(OUTBOX_DSN=empty_database)
    return unset


def test_it_prints_what_it_applied(empty: Outbox) -> None:
    """Each file on stdout, the summary on stderr; the second time nothing."""
    answer = empty("migrate")
    assert (answer.status, answer.lines) == (0, [f"applied {name}" for name in MIGRATIONS + FUNCTIONS])
    assert answer.err == f"the database is at migration {len(MIGRATIONS):04d}, before at 0000\n"
    again = empty("migrate")
    assert (again.status, again.out) == (0, "")
    assert again.err == f"nothing to do: the database is at migration {len(MIGRATIONS):04d}\n"


def test_it_prints_json(empty: Outbox) -> None:
    """One document, the same shape for a dry run."""
    expected = {
        "before": 0,
        "after": len(MIGRATIONS),
        "migrations": MIGRATIONS,
        "functions": FUNCTIONS,
        "forgotten": [],
    }
    assert empty("migrate", "--dry-run", "--json").objects == [{**expected, "is_done": False}]
    assert empty("migrate", "--json").objects == [{**expected, "is_done": True}]


def test_a_dry_run_changes_nothing(empty: Outbox, empty_database: str) -> None:
    """It prints what would be applied."""
    answer = empty("migrate", "--dry-run")
    assert (answer.status, answer.lines) == (0, [f"would apply {name}" for name in MIGRATIONS + FUNCTIONS])
    assert plan(empty_database).before == 0


def test_its_sql_does_the_same_by_psql(empty: Outbox, empty_database: str, tmp_path: Path) -> None:
    """Nothing is changed by printing it; applied, there is nothing left to do."""
    answer = empty("migrate", "--sql")
    assert (answer.status, answer.err) == (0, "")
    assert plan(empty_database).before == 0
    beside = Path(find_binaries().program("postgres")).parent / "psql"
    psql = str(beside) if beside.exists() else shutil.which("psql")
    if psql is None:
        pytest.skip("there is no psql on this machine: install postgresql-client")
    file = tmp_path / "migrate.sql"
    file.write_text(answer.out, encoding="utf-8")
    subprocess.run(
        [psql, "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--file", file, empty_database],
        check=True,
        capture_output=True,
    )
    assert plan(empty_database).is_empty
