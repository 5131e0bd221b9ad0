"""`outbox migrate`: bring a database to the schema of this release."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from relay.cli.printing import JsonFlag, print_json, say


def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be done.")] = False,
    sql: Annotated[
        bool, typer.Option("--sql", help="Print what would be done as SQL for psql, and do nothing.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Bring the database in OUTBOX_DSN to the schema of this release.

    It happens whole or not at all; two that run at once do it once; a second
    time there is nothing to do.
    """
    from relay.cli.connection import address  # noqa: PLC0415 (help needs none of it)
    from schema import migrate as schema  # noqa: PLC0415

    if sql and as_json:
        raise typer.BadParameter("expected one of --sql and --json, found both")
    dsn = address()
    todo = schema.plan(dsn) if dry_run or sql else schema.migrate(dsn)
    if sql:
        sys.stdout.write(schema.render(todo))
        return
    if as_json:
        print_json(
            {
                "before": todo.before,
                "after": todo.after,
                "migrations": [migration.name for migration in todo.migrations],
                "functions": [function.name for function in todo.functions],
                "forgotten": list(todo.forgotten),
                "is_done": not dry_run,
            }
        )
        return
    verb = "would apply" if dry_run else "applied"
    for script in todo.scripts:
        print(f"{verb} {script.name}")
    for name in todo.forgotten:
        print(f"{'would forget' if dry_run else 'forgot'} {name}")
    if todo.is_empty:
        say(f"nothing to do: the database is at migration {todo.after:04d}")
    else:
        moved = f"at migration {todo.after:04d}, before at {todo.before:04d}"
        say(f"the database {'would be' if dry_run else 'is'} {moved}")
