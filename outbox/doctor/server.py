"""What the server is, and what lies between it and us."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg.rows import class_row

from outbox import database, pooled
from outbox.doctor.finding import Finding, duration, fail, graded, ok, warn
from outbox.doctor.patient import Patient

INSPECT: LiteralString = """
select
  current_setting('server_version') as version, pg_is_in_recovery() as in_recovery,
  current_setting('default_transaction_read_only') = 'on' as read_only,
  current_setting('default_transaction_isolation') as isolation,
  current_setting('fsync') as fsync, current_setting('full_page_writes') as full_page_writes,
  current_setting('synchronous_commit') as synchronous_commit,
  pg_notification_queue_usage() as queue_usage,
  extract(epoch from clock_timestamp())::float8 as clock
"""

HOLDERS: LiteralString = """
select a.who, a.seconds
from (
  select
    format('pid %s, %s', s.pid, coalesce(nullif(s.application_name, ''), s.usename, s.backend_type)) as who,
    extract(epoch from clock_timestamp() - s.xact_start)::float8 as seconds
  from pg_stat_activity as s
  where s.pid <> pg_backend_pid() and s.xact_start is not null
    and (s.backend_xmin is not null or s.backend_xid is not null) and s.backend_type <> 'autovacuum worker'
  union all
  select format('prepared transaction %L', p.gid), extract(epoch from clock_timestamp() - p.prepared)::float8
  from pg_prepared_xacts as p
) as a
order by a.seconds desc
limit 3
"""

HIDDEN: LiteralString = """
select count(*) filter (where s.query = '<insufficient privilege>'), quote_ident(current_user)
from pg_stat_activity as s
where s.usename is not null
"""
"""Of a session that it may not look at PostgreSQL tells neither the state, nor the kind, nor since when."""

SLOTS: LiteralString = """
select s.slot_name, greatest(age(s.xmin), age(s.catalog_xmin)) as xids
from pg_replication_slots as s
where s.xmin is not null or s.catalog_xmin is not null
order by 2 desc
limit 1
"""

LISTEN: LiteralString = "listen outbox_doctor"
NOTIFY: LiteralString = "select pg_notify('outbox_doctor', %(token)s)"


@dataclass(frozen=True, slots=True)
class Server:
    """What the server says of itself, and how long it took."""

    version: str
    in_recovery: bool
    read_only: bool
    isolation: str
    fsync: str
    full_page_writes: str
    synchronous_commit: str
    queue_usage: float
    clock: float


async def look_at_server(patient: Patient) -> list[Finding]:
    """Primary, durability, isolation, pooler, queue and clock: all from one query."""
    asked_at = patient.now()
    async with patient.connection.cursor(row_factory=class_row(Server)) as cursor:
        server = await (await cursor.execute(INSPECT)).fetchone()
    assert server is not None
    middle = (asked_at + patient.now()) / 2
    return [
        judge_primary(server),
        judge_durability(server),
        judge_isolation(server),
        judge_pooler(
            has_pooler=pooled.leaves_nothing_behind(patient.connection),
            listens_past_it=patient.listen_dsn != patient.dsn,
        ),
        judge_queue(server),
        judge_clock(middle - server.clock, patient.thresholds.clock_seconds),
    ]


def judge_primary(server: Server) -> Finding:
    """A relay writes; and a replica shows what was, not what is."""
    if server.in_recovery:
        return fail("primary", f"PostgreSQL {server.version} is a replica", "point OUTBOX_DSN at the primary")
    if server.read_only:
        return fail(
            "primary",
            "default_transaction_read_only is on",
            "turn it off for this database and role, or name the primary",
        )
    return ok("primary", f"PostgreSQL {server.version} takes writes")


def judge_durability(server: Server) -> Finding:
    """An intent that a crash forgets is no intent."""
    if "off" in {server.fsync, server.full_page_writes}:
        found = f"fsync is {server.fsync}, full_page_writes is {server.full_page_writes}"
        return fail("durability", found, "turn both on: after a crash of the machine stories would be published twice")
    if server.synchronous_commit == "off":
        advice = "turn it on for the relay's role: a crash forgets the last commits, and with them what was published"
        return warn("durability", "synchronous_commit is off", advice)
    return ok("durability", f"fsync is on, synchronous_commit is {server.synchronous_commit}")


def judge_isolation(server: Server) -> Finding:
    """Outside READ COMMITTED every emit rings, and an old snapshot hides what was emitted since."""
    found = f"transactions are {server.isolation} by default"
    if server.isolation != "read committed":
        return warn("isolation", found, "set default_transaction_isolation to read committed for this database")
    return ok("isolation", found)


def judge_pooler(*, has_pooler: bool, listens_past_it: bool) -> Finding:
    """Behind one the relay works, but hears nothing."""
    if has_pooler and listens_past_it:
        return ok("pooler", "a pooler stands between this and the server, and the relay listens past it")
    if has_pooler:
        advice = "name the server itself in OUTBOX_LISTEN_DSN: LISTEN does not work through a pooler"
        return warn("pooler", "a pooler stands between this and the server", advice)
    return ok("pooler", "the connection is direct")


def judge_queue(server: Server) -> Finding:
    """When it is full, every transaction that rings fails at its commit."""
    found = f"{server.queue_usage:.0%} of the notification queue is used"
    advice = "end the session that listens inside a long transaction: pg_stat_activity, state idle in transaction"
    return graded("notification queue", server.queue_usage, (0.1, 0.5), found, advice)


def judge_clock(skew_seconds: float, warns_from: float) -> Finding:
    """Only the database's clock counts for events; people read this one."""
    found = f"this machine's clock is {duration(abs(skew_seconds))} {'ahead' if skew_seconds > 0 else 'behind'}"
    if abs(skew_seconds) >= warns_from:
        return warn("clock", found, "synchronise both: events go by the database's clock, logs by this machine's")
    return ok("clock", found)


async def look_at_listen(patient: Patient) -> list[Finding]:
    """Whether a notification makes the round trip, and how quickly."""
    token = secrets.token_hex(8)
    async with await database.connect(patient.listen_dsn, application_name="outbox doctor") as listener:
        if pooled.leaves_nothing_behind(listener):
            return [judge_listen(None)]  # another session than ours would listen
        await listener.execute(LISTEN)
        rung_at = time.monotonic()
        await patient.connection.execute(NOTIFY, {"token": token})
        heard = [
            note.payload async for note in listener.notifies(timeout=patient.thresholds.listen_seconds, stop_after=1)
        ]
        return [judge_listen(time.monotonic() - rung_at if token in heard else None)]


def judge_listen(seconds: float | None) -> Finding:
    """Without it the relay polls."""
    if seconds is None:
        advice = "name the server itself in OUTBOX_LISTEN_DSN; until then the relay polls"
        return warn("listen", "a notification did not come back", advice)
    return ok("listen", f"a notification came back in {duration(seconds)}")


async def look_at_horizon(patient: Patient) -> list[Finding]:
    """Who keeps dead rows from being vacuumed away."""
    holders = await (await patient.connection.execute(HOLDERS)).fetchall()
    [[hidden_count, role]] = await (await patient.connection.execute(HIDDEN)).fetchall()
    slots = await (await patient.connection.execute(SLOTS)).fetchall()
    return [judge_horizon(holders, (hidden_count, role), slots, patient.thresholds.transaction_seconds)]


def judge_horizon(
    holders: list[tuple[Any, ...]], hidden: tuple[int, str], slots: list[tuple[Any, ...]], bounds: tuple[float, float]
) -> Finding:
    """The log does not slow down under a long transaction, but `waiting` and everybody else's tables do."""
    who, seconds = holders[0] if holders else ("nobody", 0.0)
    hidden_count, role = hidden
    found = "no transaction is open" if not holders else f"the oldest transaction is {duration(seconds)} old ({who})"
    advice = "end it, and set idle_in_transaction_session_timeout: vacuum removes nothing younger"
    judged = graded("horizon", seconds, bounds, found, advice)
    if judged.advice is None and slots and slots[0][1] > 10_000_000:
        found = f"the replication slot {slots[0][0]} holds the horizon {slots[0][1]} transactions back"
        return warn("horizon", found, "have its consumer catch up, or drop it")
    if judged.advice is None and hidden_count:
        found = f"{hidden_count} sessions of other roles are hidden from {role}; of the others, {found}"
        advice = f"run as a superuser: grant pg_read_all_stats to {role} (pg_monitor brings it); or ask as another role"
        return warn("horizon", found, advice)
    return judged
