"""From the refusals of the SQL functions to `Refused`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from outbox.errors import Refused

_REFUSALS = "OB"
"""How the sqlstates of the functions' own refusals begin."""


@asynccontextmanager
async def refusals() -> AsyncIterator[None]:
    """Raise Refused for what the functions refuse with a sqlstate of ours."""
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate is None or not error.sqlstate.startswith(_REFUSALS):
            raise
        raise Refused(error.diag.message_primary or str(error)) from error
