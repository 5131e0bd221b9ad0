"""What each role may do, as the migrations grant it; what is missing of that in a database.

A dump that was restored without its privileges, or a revoke too many, shows here. A test holds the table against the
catalog of a fresh database, so that it can't fall behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.doctor.finding import Finding, fail, ok

GRANTS: Final[Mapping[str, Mapping[str, str]]] = {
    "outbox_emitter": {
        "usage": "outbox social",
        "execute": "outbox.emit outbox.status social.create_variant",
    },
    "outbox_relay": {
        "usage": "outbox social",
        "select": (
            "outbox.attempts outbox.cancellations outbox.cluster outbox.cursors outbox.dispatches outbox.event_states "
            "outbox.events outbox.holds outbox.lanes outbox.migrated_functions outbox.migrations outbox.receipts "
            "outbox.relays outbox.resolutions outbox.steps outbox.waiting social.account_states social.accounts "
            "social.content_items social.content_variants social.found_posts social.placements social.publish_jobs "
            "social.usage social.variant_accounts"
        ),
        "insert": (
            "outbox.attempts outbox.dispatches outbox.holds outbox.receipts outbox.relays outbox.steps outbox.waiting "
            "social.found_posts social.usage"
        ),
        "update": (
            "outbox.cursors outbox.holds outbox.lanes outbox.relays outbox.waiting social.usage "
            "social.accounts.token_ciphertext social.accounts.token_expires_at social.accounts.token_refresh_at "
            "social.accounts.token_refreshed_at social.accounts.token_set_at"
        ),
        "delete": "outbox.dispatches outbox.holds outbox.waiting social.found_posts",
        "execute": (
            "outbox.begin_verify_only outbox.compare_cluster outbox.mark_verified outbox.prunable outbox.prune "
            "outbox.recent_variants outbox.recognise_cluster"
        ),
    },
    "outbox_operator": {
        "usage": "outbox social",
        "select": (
            "outbox.attempts outbox.cancellations outbox.cluster outbox.cursors outbox.dispatches outbox.event_states "
            "outbox.events outbox.holds outbox.lanes outbox.migrated_functions outbox.migrations outbox.operations "
            "outbox.receipts outbox.relays outbox.replayed_events outbox.replays outbox.resolutions outbox.steps "
            "outbox.waiting social.account_states social.accounts.created_at social.accounts.id social.accounts.name "
            "social.accounts.platform social.accounts.remote_id social.accounts.token_expires_at "
            "social.accounts.token_refresh_at social.accounts.token_refreshed_at social.accounts.token_set_at "
            "social.content_items social.content_variants social.found_posts social.placements social.publish_jobs "
            "social.usage social.variant_accounts"
        ),
        "insert": (
            "social.accounts.name social.accounts.platform social.accounts.remote_id social.accounts.token_ciphertext "
            "social.accounts.token_expires_at social.accounts.token_refresh_at"
        ),
        "update": (
            "social.accounts.name social.accounts.token_ciphertext social.accounts.token_expires_at "
            "social.accounts.token_refresh_at social.accounts.token_set_at"
        ),
        "execute": (
            "outbox.begin_replay outbox.begin_verify_only outbox.cancel outbox.cancel_replay outbox.compare_cluster "
            "outbox.continue_replay outbox.count_replayable outbox.end_verify_only outbox.hold outbox.mark_verified "
            "outbox.may_be_live outbox.prunable outbox.prune outbox.recent_variants outbox.release outbox.replay "
            "outbox.resolve outbox.status"
        ),
    },
}
"""By role and privilege: schemas, tables and views, columns (three parts), functions by their names."""

MISSING: LiteralString = """
select g.name, g.privilege
from unnest(%(names)s::text[], %(privileges)s::text[]) as g (name, privilege)
cross join lateral string_to_array(g.name, '.') as part
where not coalesce(
  case
    when g.privilege = 'usage' then (
      select has_schema_privilege(%(role)s, n.oid, 'usage') from pg_namespace as n where n.nspname = g.name
    )
    when g.privilege = 'execute' then (
      select bool_and(has_function_privilege(%(role)s, p.oid, 'execute'))
      from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
      where n.nspname = part[1] and p.proname = part[2]
    )
    when cardinality(part) = 3 then (
      select has_column_privilege(%(role)s, a.attrelid, a.attnum, g.privilege)
      from pg_attribute as a
      where a.attrelid = to_regclass(part[1] || '.' || part[2]) and a.attname = part[3] and not a.attisdropped
    )
    else has_table_privilege(%(role)s, to_regclass(g.name), g.privilege)
  end,
  false
)
"""
"""What is not there can't be used either."""

EXISTING: LiteralString = "select r.rolname from pg_roles as r where r.rolname = any (%(roles)s)"
TOLD_MAX = 3


def grants_of(role: str) -> list[tuple[str, str]]:
    """Return what one of our roles may do: objects and privileges."""
    return [(name, privilege) for privilege, names in GRANTS[role].items() for name in names.split()]


async def look_at_grants(connection: AsyncConnection[TupleRow], relays: Iterable[str]) -> Finding:
    """What our three roles lack, and what the roles that relays work as lack of a relay's."""
    needed = {role: role for role in GRANTS} | dict.fromkeys(relays, "outbox_relay")
    rows = await (await connection.execute(EXISTING, {"roles": list(needed)})).fetchall()
    existing = {name for (name,) in rows}
    missing: dict[str, list[tuple[str, str]] | None] = {}
    for role, like in needed.items():
        if role not in existing:
            missing[role] = None
            continue
        names, privileges = zip(*grants_of(like), strict=True)
        arguments = {"role": role, "names": list(names), "privileges": list(privileges)}
        missing[role] = [(row[0], row[1]) for row in await (await connection.execute(MISSING, arguments)).fetchall()]
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
    told = ", ".join(f"{name} ({privilege})" for name, privilege in what[:TOLD_MAX])
    more = f" and {len(what) - TOLD_MAX} more" if len(what) > TOLD_MAX else ""
    found = f"{role} lacks {told}{more}"
    if role not in GRANTS:
        return fail("grants", found, f"run: grant outbox_relay to {role}")
    return fail("grants", found, f"run as the owner: {_statement(role, *what[0])}; a restore may have left grants out")


def _statement(role: str, name: str, privilege: str) -> str:
    """The statement that grants what is missing."""
    if privilege == "usage":
        return f"grant usage on schema {name} to {role}"
    if privilege == "execute":
        return f"grant execute on function {name} to {role}"
    relation, _, column = name.rpartition(".")
    if "." in relation:
        return f"grant {privilege} ({column}) on {relation} to {role}"
    return f"grant {privilege} on {name} to {role}"
