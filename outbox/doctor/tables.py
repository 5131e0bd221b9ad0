"""The tables: whose log they are, who may do what, what row security hides from a relay, whether they are vacuumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString, assert_never

from psycopg import sql
from psycopg.rows import class_row

from outbox import cluster
from outbox.doctor.finding import Finding, fail, ok, warn
from outbox.doctor.grants import look_at_grants
from outbox.doctor.patient import Look, Patient

RELAY_ROLES: LiteralString = """
select r.rolname, r.rolsuper, r.rolbypassrls, pg_has_role(r.oid, n.nspowner, 'member') as is_owner,
  exists (select from pg_stat_activity as s where s.usesysid = r.oid and s.application_name = 'outbox-settler') as works
from pg_roles as r, pg_namespace as n
where n.nspname = 'outbox' and (
  r.rolname = 'outbox_relay'
  or exists (select from pg_stat_activity as s where s.usesysid = r.oid and s.application_name = 'outbox-settler')
)
order by works desc, r.rolname
"""

OWNERS_VIEW: LiteralString = "select variant_ids, account_ids from outbox.recent_variants(1000)"
ROLES_VIEW: LiteralString = """
select
  (select count(*) from social.content_variants as v where v.id = any (%(variants)s)),
  (select count(*) from social.accounts as a where a.id = any (%(accounts)s)),
  row_security_active('social.content_variants') or row_security_active('social.accounts')
"""
MAY_BE: LiteralString = "select pg_has_role(current_user, %(role)s, 'member'), current_user = %(role)s"

TABLES: LiteralString = """
select
  n.nspname || '.' || c.relname as name, coalesce(s.n_live_tup, 0) as live_rows, coalesce(s.n_dead_tup, 0) as dead_rows,
  coalesce(c.reloptions && array['autovacuum_enabled=false', 'autovacuum_enabled=off'], false) as is_off,
  current_setting('autovacuum') = 'on' and current_setting('track_counts') = 'on' as runs
from pg_class as c
join pg_namespace as n on n.oid = c.relnamespace
left join pg_stat_all_tables as s on s.relid = c.oid
where n.nspname in ('outbox', 'social') and c.relkind = 'r'
order by s.n_dead_tup desc nulls last, 1
"""


@dataclass(frozen=True, slots=True)
class Role:
    """A role that relays work as, or the one that they should be members of."""

    rolname: str
    rolsuper: bool
    rolbypassrls: bool
    is_owner: bool
    works: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table of ours."""

    name: str
    live_rows: int
    dead_rows: int
    is_off: bool
    runs: bool


async def look_at_roles(patient: Patient) -> list[Finding]:
    """As whom relays work, and whether each role may do what it is for."""
    roles = await _relay_roles(patient)
    working = [role.rolname for role in roles if role.works]
    return [judge_roles(roles), await look_at_grants(patient.connection, working)]


def judge_roles(roles: Sequence[Role]) -> Finding:
    """A relay needs outbox_relay, and nothing more."""
    mighty = [role.rolname for role in roles if role.works and (role.rolsuper or role.is_owner)]
    if mighty:
        found = f"a relay works as {mighty[0]}, which may do anything to the schema"
        return warn("role", found, "give it a role of its own: create role relay login; grant outbox_relay to relay")
    working = [role.rolname for role in roles if role.works]
    return ok("role", f"relays work as {', '.join(working)}" if working else "no relay is connected")


async def look_at_row_security(patient: Patient) -> list[Finding]:
    """Whether the relay's role sees the variants that the owner sees: the incident's first suspect."""
    connection = patient.connection
    [[variants, accounts]] = await (await connection.execute(OWNERS_VIEW)).fetchall()
    findings = []
    for role in _worth_checking(await _relay_roles(patient)):
        async with connection.transaction(force_rollback=True):
            [[may_be, is_self]] = await (await connection.execute(MAY_BE, {"role": role.rolname})).fetchall()
            if not may_be:
                findings.append(
                    warn(
                        "row security",
                        f"this role can't look as {role.rolname}",
                        f"run this with the relay's own OUTBOX_DSN, or as a member of {role.rolname}",
                    )
                )
                continue
            if not is_self:
                await connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role.rolname)))
            arguments = {"variants": variants, "accounts": accounts}
            [[seen, accounts_seen, is_active]] = await (await connection.execute(ROLES_VIEW, arguments)).fetchall()
        hidden = (len(variants) - seen, len(accounts) - accounts_seen)
        findings.append(judge_row_security(role.rolname, hidden, len(variants), is_active=is_active))
    return findings


def judge_row_security(role: str, hidden: tuple[int, int], count: int, *, is_active: bool) -> Finding:
    """Compare what the role sees with what the owner sees."""
    if any(hidden):
        found = f"policies hide {hidden[0]} of the last {count} variants and {hidden[1]} of their accounts from {role}"
        advice = f"add a policy for {role}, on social.content_variants and social.accounts: for select using (true)"
        return fail("row security", found, advice)
    if is_active:
        found = f"policies apply to {role}, and hide none of the last {count} variants"
        return warn("row security", found, f"a policy for {role} with using (true) makes sure that none ever does")
    return ok("row security", f"{role} sees all of the last {count} variants")


async def look_at_cluster(patient: Patient) -> list[Finding]:
    """Whether this is the cluster that the log belongs to."""
    return [judge_cluster(await cluster.compare(patient.connection, cluster.Evidence()))]


def judge_cluster(compared: cluster.Comparison) -> Finding:
    """After a restore relays look and do not publish, until a person has looked too."""
    what = cluster.Finding
    if compared.verify_only_since is not None:
        found = (
            f"relays only verify since {compared.verify_only_since:%Y-%m-%d %H:%M} UTC: {compared.verify_only_reason}"
        )
        return fail("restore guard", found, "run: outbox recover, which shows what would be published again")
    match compared.finding:
        case what.NEW | what.SAME | what.UPGRADED:
            return ok("restore guard", f"the cluster is {compared.finding}")
        case what.PROMOTED:
            found = "the cluster was promoted: a failover, or a restore to an earlier point"
            return warn("restore guard", found, "the next relay that starts decides: see its log, and outbox recover")
        case what.COPIED | what.AHEAD | what.MOVED | what.CLONED:
            found = f"this is not the cluster that the log belongs to: it is {compared.finding}"
            return fail("restore guard", found, "a relay that starts here only verifies: run outbox recover")
        case _:
            assert_never(compared.finding)


async def look_at_autovacuum(patient: Patient) -> list[Finding]:
    """Whether our tables are vacuumed, and whether that is enough."""
    async with patient.connection.cursor(row_factory=class_row(Table)) as cursor:
        tables = await (await cursor.execute(TABLES)).fetchall()
    return [judge_autovacuum(tables, patient.thresholds.dead_rows)]


def judge_autovacuum(tables: Sequence[Table], dead_rows: int) -> Finding:
    """The small tables are written often, and read by every emit."""
    off = [table.name for table in tables if table.is_off]
    if off or not all(table.runs for table in tables):
        what = f"of {', '.join(off)}" if off else "of the whole server, or its counts,"
        return fail("autovacuum", f"autovacuum {what} is turned off", "turn it on: the relay's small tables need it")
    bloated = [table for table in tables if table.dead_rows >= dead_rows and table.dead_rows > 10 * table.live_rows]
    if bloated:
        table = bloated[0]
        found = f"{table.name} has {table.dead_rows} dead rows beside {table.live_rows} live ones"
        return warn("autovacuum", found, "see the horizon, and autovacuum_naptime")
    return ok("autovacuum", f"it is on for all {len(tables)} tables, and keeps up")


async def _relay_roles(patient: Patient) -> list[Role]:
    async with patient.connection.cursor(row_factory=class_row(Role)) as cursor:
        return await (await cursor.execute(RELAY_ROLES)).fetchall()


def _worth_checking(roles: Sequence[Role]) -> list[Role]:
    """The roles that relays work as; where none is connected, the one that they should be members of."""
    return [role for role in roles if role.works] or list(roles)


LOOKS: Sequence[tuple[str, Look]] = (
    ("restore guard", look_at_cluster),
    ("role", look_at_roles),
    ("row security", look_at_row_security),
    ("autovacuum", look_at_autovacuum),
)
