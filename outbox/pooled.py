"""What differs behind a pooler in transaction mode, such as pgbouncer's.

There a session is nobody's own: each transaction may run on another server connection, and what one leaves behind
(a setting, a prepared statement, LISTEN) is met by whoever comes next. So nothing is left: a statement is sent as
text together with the settings that it needs, all in one message, which PostgreSQL runs as one transaction. That costs
no round trip, and no transaction is ever held open between two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, LiteralString, Self

from psycopg import AsyncClientCursor, AsyncConnection, AsyncCursor, AsyncRawCursor, pq, sql
from psycopg.rows import Row, TupleRow

FIND_BACKEND: LiteralString = "select pg_backend_pid()"


async def is_pooled(connection: AsyncConnection[TupleRow]) -> bool:
    """Tell whether a pooler stands between us and the server: it makes up the process id that the protocol tells.

    A pooler in session mode is taken for one in transaction mode: from outside they look alike.
    """
    row = await (await connection.execute(FIND_BACKEND)).fetchone()
    assert row is not None
    return bool(row[0] != connection.info.backend_pid)


def leave_nothing_behind(connection: AsyncConnection[TupleRow], settings: Mapping[str, str]) -> None:
    """Have a connection's statements bring their settings with them; for the cursors that are opened from now on."""
    connection.cursor_factory = _cursor_with(settings)


def leaves_nothing_behind(connection: AsyncConnection[TupleRow]) -> bool:
    """Tell whether a connection was made to live behind a pooler."""
    return issubclass(connection.cursor_factory, AsyncClientCursor)


async def execute_numbered(
    connection: AsyncConnection[TupleRow], statement: LiteralString, *arguments: Any
) -> list[TupleRow]:
    """Execute a statement in PostgreSQL's own form, $1, and return its rows.

    psycopg takes a text with placeholders of its own apart at each execution, where it is long; one with the server's
    is sent as it is, prepared. Behind a pooler it is text like any other.
    """
    cursor: AsyncCursor[TupleRow]
    if leaves_nothing_behind(connection):
        cursor = connection.cursor()
        await cursor.execute(_named(statement), {str(number): value for number, value in enumerate(arguments, start=1)})
    else:
        cursor = AsyncRawCursor(connection)
        await cursor.execute(statement, arguments, prepare=True)
    return await cursor.fetchall()


@cache
def _named(statement: LiteralString) -> LiteralString:
    """Return a statement with psycopg's placeholders in the place of the server's."""
    return re.sub(r"\$(\d+)", r"%(\1)s", statement.replace("%", "%%"))


def _cursor_with(settings: Mapping[str, str]) -> type[AsyncCursor[Any]]:
    prefix = sql.SQL("").join(
        sql.SQL("set local {} = {}; ").format(sql.Identifier(name), sql.Literal(value))
        for name, value in settings.items()
    )

    class CursorWithSettings(AsyncClientCursor[Row]):
        """Prepares nothing, and takes text: one message with several statements has no other form."""

        async def execute(self, query: Any, params: Any = None, **_how: Any) -> Self:
            self.format = pq.Format.TEXT
            text = query if isinstance(query, sql.Composable) else sql.SQL(query)
            await super().execute(prefix + text, params, binary=False)
            while self.nextset():  # what the settings answered, which is nothing
                pass
            return self

    return CursorWithSettings
