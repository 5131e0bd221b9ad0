"""What each role may do, as the migrations grant it; what is missing of that in a database.

A dump that was restored without its privileges, or a revoke too many, shows here: `outbox doctor` looks at all roles, a
relay at its own before it begins. A test holds the table against the catalog of a fresh database, so that it can't fall
behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

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
            "outbox.begin_verify_only outbox.compare_cluster outbox.mark_verified outbox.notify outbox.prunable "
            "outbox.prune outbox.recent_variants outbox.recognise_cluster"
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
left join pg_roles as r on r.rolname = %(role)s
where not coalesce(
  case
    when g.privilege = 'usage' then (
      select has_schema_privilege(r.oid, n.oid, 'usage') from pg_namespace as n where n.nspname = g.name
    )
    when g.privilege = 'execute' then (
      select bool_and(has_function_privilege(r.oid, p.oid, 'execute'))
      from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
      where n.nspname = part[1] and p.proname = part[2]
    )
    when cardinality(part) = 3 then (
      select has_column_privilege(r.oid, a.attrelid, a.attnum, g.privilege)
      from pg_attribute as a
      where a.attrelid = to_regclass(part[1] || '.' || part[2]) and a.attname = part[3] and not a.attisdropped
    )
    else has_table_privilege(r.oid, to_regclass(g.name), g.privilege)
  end,
  false
)
"""
"""What is not there can't be used either, nor can a role that is not there use anything."""

TOLD_MAX = 3


def grants_of(role: str) -> list[tuple[str, str]]:
    """Return what one of our roles may do: objects and privileges."""
    return [(name, privilege) for privilege, names in GRANTS[role].items() for name in names.split()]


async def find_missing(connection: AsyncConnection[TupleRow], role: str, like: str) -> list[tuple[str, str]]:
    """Return what a role lacks of what one of ours may do: objects and privileges."""
    names, privileges = zip(*grants_of(like), strict=True)
    arguments = {"role": role, "names": list(names), "privileges": list(privileges)}
    return [(row[0], row[1]) for row in await (await connection.execute(MISSING, arguments)).fetchall()]


def tell(missing: Sequence[tuple[str, str]]) -> str:
    """Return some of what is missing for a sentence, and how much more it is."""
    told = ", ".join(f"{name} ({privilege})" for name, privilege in missing[:TOLD_MAX])
    more = f" and {len(missing) - TOLD_MAX} more" if len(missing) > TOLD_MAX else ""
    return f"{told}{more}"


def statement(role: str, name: str, privilege: str) -> str:
    """Return the statement that grants what is missing."""
    if privilege == "usage":
        return f"grant usage on schema {name} to {role}"
    if privilege == "execute":
        return f"grant execute on function {name} to {role}"
    relation, _, column = name.rpartition(".")
    if "." in relation:
        return f"grant {privilege} ({column}) on {relation} to {role}"
    return f"grant {privilege} on {name} to {role}"
