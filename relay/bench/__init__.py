"""`outbox bench`: what the outbox costs on this server, measured on scratch databases that are dropped afterwards.

drain.py             a backlog through a handler that does nothing: what the relay alone can do
latency.py           from just before a commit to the handler, at a steady rate
emit.py              what emitting costs the writers, with the doorbell and with other ways to wake a reader
horizon.py           a drain while a transaction that was forgotten holds the horizon
idle.py              what a relay costs that has nothing to do
recovery.py          a drain with deaths: of its relays, of its server
traces.py            a drain with OpenTelemetry's traces, beside one without
pipeline.py          image stories to the sandbox, beside a bare script that makes the same calls

relay_process.py     starts a relay in a process of its own, so that its CPU is its own
relay_program.py     what runs there
bare_program.py      the bare script
writers.py           who writes meanwhile: pgbench, or writer_program.py where there is none
readings.py          what the server counts: transactions, WAL, row versions
scratch.py           the database: on the server of OUTBOX_DSN, else on an embedded PostgreSQL
progress.py          what a person sees meanwhile
settings.py          what is read from the environment

Figures are of one machine and one moment, and are printed, never tested; tests check only what does not depend on the
machine. Nothing here touches a table of the user's.
"""
