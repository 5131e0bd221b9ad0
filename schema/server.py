"""Opens a connection to a server that can hold the schema, or says in one sentence why there is none."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from schema.errors import ServerUnsuitable

OLDEST_VERSION: Final = 140000
CONNECT_SECONDS: Final = 10


def connect(dsn: str) -> psycopg.Connection[TupleRow]:
    """Open an autocommit connection to a server of PostgreSQL 14 or later.

    Raises:
        ServerUnsuitable: The address is malformed, nobody answers there, or the server is too old.
    """
    address = describe(dsn)
    arguments: dict[str, Any] = {"autocommit": True, "client_encoding": "utf8"}
    if "connect_timeout" not in conninfo_to_dict(dsn):
        arguments["connect_timeout"] = CONNECT_SECONDS
    try:
        connection = psycopg.connect(dsn, **arguments)
    except psycopg.OperationalError as error:
        raise ServerUnsuitable(
            f"expected a PostgreSQL server at {address}, found: {reason(error, dsn)}; "
            "check that it runs and that the address, the database and the role are right"
        ) from None
    try:
        require_version(connection.info.server_version)
    except ServerUnsuitable:
        connection.close()
        raise
    return connection


def describe(dsn: str) -> str:
    """An address for people and logs: host, port, database and role, never a password.

    Raises:
        ServerUnsuitable: The address is malformed; what is wrong is not quoted, for it may be a part of the password.
    """
    malformed = ServerUnsuitable(
        "expected an address such as postgresql://role:password@host:5432/database, found one that can't be read; "
        "percent-encode special characters of the password"
    )
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise malformed from None
    host, port, dbname, user = (str(parts.get(name, "")) for name in ("host", "port", "dbname", "user"))
    # A password with an unescaped @, / or : spills over into these.
    if "@" in host + dbname or set(port) - set("0123456789,"):
        raise malformed
    where = f"{host or 'the local socket'}{port and ':'}{port}"
    return f"{where}, database {dbname or user or 'by default'}, role {user or 'by default'}"


def require_version(version: int) -> None:
    """Refuse a server that is too old; `version` is as libpq counts, 140000 for 14.0.

    Raises:
        ServerUnsuitable: It is older than 14.
    """
    if version < OLDEST_VERSION:
        raise ServerUnsuitable(
            f"expected PostgreSQL {OLDEST_VERSION // 10000} or later, found {_number(version)}; upgrade the server"
        )


def _number(version: int) -> str:
    if version >= 100000:
        return f"{version // 10000}.{version % 10000}"
    return f"{version // 10000}.{version // 100 % 100}"


def reason(error: psycopg.OperationalError, dsn: str) -> str:
    """The line of libpq's complaint that says most, without the password even where a server quotes it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # The last one, but for libpq's question whether the server is running.
    telling = [line for line in lines if not line.startswith("Is the server running")]
    said = telling[-1] if telling else "no answer"
    password = conninfo_to_dict(dsn).get("password")
    return said.replace(str(password), "***") if password else said
