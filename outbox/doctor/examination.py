"""Runs the checks one after another; one that can't look says so, and the others go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import LiteralString

import anyio
import psycopg
from psycopg.conninfo import make_conninfo

from outbox import database
from outbox.doctor import server, tables, work
from outbox.doctor.finding import Finding, fail, ok, warn
from outbox.doctor.patient import Look, Patient, Thresholds
from outbox.errors import OutboxError
from schema.errors import SchemaError
from schema.migrate import require_current

HAS_SCHEMA: LiteralString = "select to_regclass('outbox.events') is not null"


async def examine(
    dsn: str,
    listen_dsn: str | None = None,
    *,
    thresholds: Thresholds | None = None,
    now: Callable[[], float] = time.time,
) -> list[Finding]:
    """Examine a database; nothing is changed. Findings are in the order of the checks.

    Where it can't be reached, or has no schema of ours, what needs that is left out.
    """
    try:
        connection = await database.connect(
            make_conninfo(dsn, target_session_attrs="any"),
            application_name="outbox doctor",
            statement_seconds=30,
        )
    except OutboxError as error:
        return [fail("connection", str(error), "mend that first: nothing else can be looked at")]
    async with connection:
        patient = Patient(dsn, listen_dsn or dsn, connection, thresholds or Thresholds(), now)
        findings = await _look(patient, "server", server.look_at_server)
        is_primary = all(finding.check != "primary" or finding.advice is None for finding in findings)
        if is_primary:
            findings += await _look(patient, "listen", server.look_at_listen)
        findings += await _look(patient, "horizon", server.look_at_horizon)
        [[has_schema]] = await (await connection.execute(HAS_SCHEMA)).fetchall()
        findings.append(await anyio.to_thread.run_sync(_look_at_schema, dsn))
        if has_schema:
            for name, look in (*tables.LOOKS, *work.LOOKS):
                findings += await _look(patient, name, look)
    return findings


async def _look(patient: Patient, check: str, look: Look) -> list[Finding]:
    try:
        return await look(patient)
    except (psycopg.Error, OutboxError) as error:
        message = error.diag.message_primary if isinstance(error, psycopg.Error) else None
        found = f"could not look: {' '.join((message or str(error)).split())}"
        return [warn(check, found, "ask as a member of outbox_operator and pg_monitor, or as the owner")]


def _look_at_schema(dsn: str) -> Finding:
    try:
        require_current(dsn)
    except SchemaError as error:
        found, _, advice = str(error).rpartition("; ")
        return fail("schema", found or advice, advice if found else "run: outbox migrate")
    return ok("schema", "it is that of this release")
