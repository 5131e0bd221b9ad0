"""A database's schema as sorted text lines, from the catalogs: two databases are alike if these are."""

from __future__ import annotations

from typing import Final, LiteralString

import psycopg

OBJECTS: Final[LiteralString] = r"""
with ours as (
  select oid, nspname, nspacl from pg_namespace
  where nspname !~ '^pg_' and nspname <> 'information_schema'
), relations as (
  select c.oid, n.nspname || '.' || c.relname as name, c.relkind, c.relacl, c.relreplident, c.reloptions,
    c.relrowsecurity, c.relpersistence
  from pg_class as c join ours as n on n.oid = c.relnamespace
  where c.relkind in ('r', 'v', 'm', 'S', 'p', 'f')
)
select format('schema %s %s', nspname, (select array_agg(a::text order by a::text) from unnest(nspacl) as a)) from ours
union all
select format('relation %s %s %s %s %s %s %s comment %s', name, relkind, relreplident, reloptions, relrowsecurity,
  relpersistence, (select array_agg(a::text order by a::text) from unnest(relacl) as a),
  obj_description(oid, 'pg_class'))
from relations
union all
select format('column %s.%s %s not null %s default %s identity %s generated %s %s comment %s', r.name, a.attname,
  format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated,
  (select array_agg(p::text order by p::text) from unnest(a.attacl) as p), col_description(r.oid, a.attnum))
from relations as r
join pg_attribute as a on a.attrelid = r.oid and r.relkind <> 'S' and a.attnum > 0 and not a.attisdropped
left join pg_attrdef as d on d.adrelid = r.oid and d.adnum = a.attnum
union all
select format('constraint %s.%s %s', r.name, k.conname, pg_get_constraintdef(k.oid))
from relations as r join pg_constraint as k on k.conrelid = r.oid
union all
select format('index %s', pg_get_indexdef(i.indexrelid)) from relations as r join pg_index as i on i.indrelid = r.oid
union all
select format('trigger %s %s', pg_get_triggerdef(t.oid), t.tgenabled)
from relations as r join pg_trigger as t on t.tgrelid = r.oid where not t.tgisinternal
union all
select format('view %s %s', name, pg_get_viewdef(oid)) from relations where relkind in ('v', 'm')
union all
select format('routine %s %s comment %s', pg_get_functiondef(p.oid),
  (select array_agg(a::text order by a::text) from unnest(p.proacl) as a), obj_description(p.oid, 'pg_proc'))
from pg_proc as p join ours as n on n.oid = p.pronamespace where p.prokind in ('f', 'p')
union all
select format('type %s.%s %s', n.nspname, t.typname, t.typtype)
from pg_type as t join ours as n on n.oid = t.typnamespace where t.typelem = 0
"""
SEEN: Final[LiteralString] = """
select format('migration %s %s %s', version, name, checksum) from outbox.migrations
union all
select format('function file %s %s', name, checksum) from outbox.migrated_functions
"""


def catalog(dsn: str) -> list[str]:
    """Every schema, table, view, column, constraint, index, trigger, routine, type, grant and comment of a database."""
    with psycopg.connect(dsn) as connection:
        lines = [line for query in (OBJECTS, SEEN) for (line,) in connection.execute(query).fetchall()]
    return sorted(lines)
