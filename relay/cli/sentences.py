"""From an error to one sentence: what was expected, what was found, what to do."""

from __future__ import annotations

import errno

import psycopg
from psycopg import errors

from outbox.errors import OutboxError
from publisher.sandbox.errors import SandboxError
from relay.cli.printing import one_line
from relay.redaction import redact
from schema.errors import SchemaError

UNEXPECTED = "run it again as outbox --traceback ... to see where it came from"


def sentence_of(error: BaseException) -> str:
    """Say what went wrong, without a secret; never empty."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case OutboxError() | SchemaError() | SandboxError():
            return _one_line(str(error)) or type(error).__name__
        case psycopg.Error():
            return _of_database(error)
        case UnicodeError():
            return "expected text in UTF-8, found bytes that are none"
        case OSError() if error.errno == errno.ENOSPC:
            return "expected room for what is printed, found a full disk"
        case _:
            return f"unexpected {type(error).__name__}: {_foreign(error) or 'no message'}; {UNEXPECTED}"


def _of_database(error: psycopg.Error) -> str:
    found = _foreign(error)
    match error:
        case errors.CheckViolation() | errors.NotNullViolation() if error.diag.constraint_name:
            rule = error.diag.constraint_name.replace("_", " ")
            return f"expected what the tables' rules allow, found that it breaks this one: {rule}"
        case errors.InsufficientPrivilege():
            return _of_privilege(error)
        case errors.InvalidSchemaName() | errors.UndefinedFunction() | errors.UndefinedTable():
            return f"expected the schema of this release in the database, found: {found}; run: outbox migrate"
        case errors.QueryCanceled():
            return f"expected an answer of the database in time, found: {found}; ask for less, or try again"
        case psycopg.OperationalError():
            return f"expected the connection to the database to last, found: {found}; try again"
        case _:
            return f"expected the database to accept this, found: {found}"


def _of_privilege(error: psycopg.Error) -> str:
    return (
        f"expected a role with the privileges for this, found: {_foreign(error)}; grant it outbox_operator "
        "(outbox_emitter is enough to emit), or name another role in OUTBOX_DSN"
    )


def _foreign(error: BaseException) -> str:
    """What others say may quote anything."""
    message = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return redact(_one_line(message or str(error)))


def _one_line(text: str) -> str:
    return one_line(" ".join(text.split()))
