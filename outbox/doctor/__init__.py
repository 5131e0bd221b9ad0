"""Looks at a database as a relay needs it, and says what is wrong and what to do: `outbox doctor`.

examination.py  all checks one after another, the schema's version among them; one that can't look says so
patient.py      who is examined, and from when on something is bad
finding.py      what a check found: ok, warn or fail, and what to do
server.py       primary, durability, isolation, pooler, LISTEN, notification queue, horizon, clock
tables.py       restore guard, roles, row security, autovacuum
grants.py       what each role may do, and lacks
work.py         lanes, backlog, stuck keys, deadlines, unknown outcomes, holds, delays

A check is a query that gathers facts, and a pure judgement over them.
"""
