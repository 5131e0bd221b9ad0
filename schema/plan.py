"""Decides what a database needs, from what it has seen and what the code has; no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from schema.errors import SchemaConflict, SchemaTooNew
from schema.scripts import Function, Migration, Scripts


def decide(books: Books, scripts: Scripts) -> Plan:
    """Compare what a database has seen with what the code has.

    Raises:
        SchemaTooNew: The database has migrations that this code doesn't know.
        SchemaConflict: An applied migration was edited since.
    """
    if books.version > scripts.version:
        raise SchemaTooNew(
            f"expected the database at migration {scripts.version:04d} at most, found it at {books.version:04d}; "
            "upgrade this program to the release that migrated it"
        )
    for (version, name, checksum), migration in zip(books.migrations, scripts.migrations, strict=False):
        if (version, name, checksum) != (migration.version, migration.name, migration.checksum):
            raise SchemaConflict(
                f"expected migration {migration.name} as it is in this release, found that the database has seen "
                f"{name if name != migration.name else 'another text of it'}; "
                "restore the file, and put the change into a new migration"
            )
    migrations = scripts.migrations[len(books.migrations) :]
    applied = dict(books.functions)
    return Plan(
        before=books.version,
        after=scripts.version,
        migrations=migrations,
        functions=tuple(
            function for function in scripts.functions if migrations or applied.get(function.name) != function.checksum
        ),
        forgotten=tuple(sorted(applied.keys() - {function.name for function in scripts.functions})),
    )


@dataclass(frozen=True, slots=True)
class Books:
    """What a database says that it has seen: migrations in order, and each function's checksum by name.

    `breaking` numbers the migrations that older releases can't live with.
    """

    migrations: tuple[tuple[int, str, str], ...] = ()
    functions: tuple[tuple[str, str], ...] = ()
    breaking: tuple[int, ...] = ()
    exist: bool = False

    @property
    def version(self) -> int:
        """The last applied migration's number; 0 for a database without the schema."""
        return self.migrations[-1][0] if self.migrations else 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to a database, in this order; also the report of what was done.

    `before` and `after` are the numbers of the last migration; `forgotten` names function files that are no more.
    """

    before: int
    after: int
    migrations: tuple[Migration, ...]
    functions: tuple[Function, ...]
    forgotten: tuple[str, ...]

    @property
    def scripts(self) -> tuple[Migration | Function, ...]:
        """The files to apply, in order."""
        return self.migrations + self.functions

    @property
    def is_empty(self) -> bool:
        """Whether the database is as the code expects it."""
        return not (self.scripts or self.forgotten)
