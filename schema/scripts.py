"""The SQL files, as values: numbered migrations, and one file per function."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from schema.errors import SchemaError

MIGRATION_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+")
BREAKS_OLDER: Final = "-- breaks older releases"
"""A line of a migration after which relays of a release that does not know it must not run."""
FUNCTION_NAME: Final = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Migration:
    """A file of `schema/migrations/`; `name` is the file's, without `.sql`."""

    version: int
    name: str
    sql: str
    checksum: str

    @property
    def breaks_older(self) -> bool:
        """Whether it says that releases before it can't work with the schema any more."""
        return BREAKS_OLDER in self.sql.splitlines()


@dataclass(frozen=True, slots=True)
class Function:
    """A file of `schema/functions/`, which may be applied any number of times; `name` is the file's, without `.sql`."""

    name: str
    sql: str
    checksum: str


@dataclass(frozen=True, slots=True)
class Scripts:
    """All that the code expects in a database; migrations are applied first, both in the order of their names."""

    migrations: tuple[Migration, ...]
    functions: tuple[Function, ...]

    @property
    def version(self) -> int:
        """The last migration's number; 0 without any."""
        return self.migrations[-1].version if self.migrations else 0


def load(root: Traversable | None = None) -> Scripts:
    """Read the SQL files under `root`, by default those of this package.

    Raises:
        SchemaError: A file is misnamed, or the migrations are not numbered 1, 2, 3 and so on.
    """
    if root is None:
        root = files("schema")
    migrations = []
    for expected, (name, text) in enumerate(_sql_files(root / "migrations"), start=1):
        match = MIGRATION_NAME.fullmatch(name)
        if match is None or int(match[1]) != expected:
            raise SchemaError(
                f"expected a migration with a name such as {expected:04d}_add_holds.sql, found {name}.sql; "
                "number the files without gaps"
            )
        migrations.append(Migration(expected, name, text, _checksum(text)))
    functions = []
    for name, text in _sql_files(root / "functions"):
        if FUNCTION_NAME.fullmatch(name) is None:
            raise SchemaError(f"expected lower case letters, digits and _ in a function's file name, found {name}.sql")
        functions.append(Function(name, text, _checksum(text)))
    return Scripts(tuple(migrations), tuple(functions))


def _sql_files(folder: Traversable) -> Iterable[tuple[str, str]]:
    if not folder.is_dir():
        return
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".sql"):
            yield file.name.removesuffix(".sql"), file.read_text(encoding="utf-8")


def _checksum(text: str) -> str:
    """The same for a file whose lines end in CR LF: a checkout may have changed them."""
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()
