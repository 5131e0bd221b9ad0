"""What our roles, and the roles that relays work as, lack of what the migrations grant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.doctor.finding import Finding, fail, ok
from outbox.grants import GRANTS, find_missing, statement, tell

EXISTING: LiteralString = "select r.rolname from pg_roles as r where r.rolname = any (%(roles)s)"


async def look_at_grants(connection: AsyncConnection[TupleRow], relays: Iterable[str]) -> Finding:
    """What our three roles lack, and what the roles that relays work as lack of a relay's."""
    needed = {role: role for role in GRANTS} | dict.fromkeys(relays, "outbox_relay")
    rows = await (await connection.execute(EXISTING, {"roles": list(needed)})).fetchall()
    existing = {name for (name,) in rows}
    missing: dict[str, list[tuple[str, str]] | None] = {}
    for role, like in needed.items():
        missing[role] = await find_missing(connection, role, like) if role in existing else None
    return judge_grants(missing)


def judge_grants(missing: Mapping[str, Sequence[tuple[str, str]] | None]) -> Finding:
    """Judge what each role lacks; None is a role that is not there."""
    lacking = {role: what for role, what in missing.items() if what is None or what}
    if not lacking:
        return ok("grants", f"{', '.join(missing)} have all that this release grants")
    # A relay's own role lacks what outbox_relay lacks: that is mended first.
    role, what = next(iter(lacking.items()))
    if what is None:
        advice = f"run as a superuser: create role {role} nologin; then this again, for what it lacks"
        return fail("grants", f"the role {role} does not exist: a dump of one database holds no roles", advice)
    found = f"{role} lacks {tell(what)}"
    if role not in GRANTS:
        return fail("grants", found, f"run: grant outbox_relay to {role}")
    return fail("grants", found, f"run as the owner: {statement(role, *what[0])}; a restore may have left grants out")
