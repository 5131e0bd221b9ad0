"""The event and its store: knows PostgreSQL, knows neither Meta nor processes.

event.py outcome.py     the values: what was decided, what became of it
emit.py                 an application's side: write an event in its own transaction
log.py listing.py       the relay's side of the log: windows; what a large one holds
hand.py low_water.py    the relay's side of the log: cursors, what is in hand, and what may be saved
batch.py settle.py      the relay's side of outcomes: every durable write, fenced
take_over.py            the relay's side of lanes that it just took: what was left in doubt
ledger.py               a handler's side of its steps: intents before irreversible calls
handler.py              what delivers events of one type
operations.py           a person's side: find, cancel
replay.py               a person's side: emit ended events once more, one or many, at a rate
resolution.py           a person's side of unknown outcomes; loaded by the relay
audit.py                a person's side: who changed what, and why
life.py                 a person's side: all that ever happened to an event
statistics.py           a person's side: how it goes, in numbers that cost little
doctor/                 a person's side: what is wrong, and what to do
holds.py                what pauses, and until when: loaded by the relay, held and released by people
ownership.py            a person's side: relays, lanes, and how far each has come
refusals.py             a person's side: what the SQL functions refuse, as Refused
recovery.py             a person's side: after a restore, what would be published again
prune.py                deletes what ended long ago
suspects.py             the relay's side of crashes: which events may have killed one
lease.py waiting.py     the relay's side of time: who owns which lanes, what is due
cluster.py              whether the log still is in its own cluster, and whole
trace.py                OpenTelemetry, where the process has it
database.py pooled.py   connections, behind a pooler too, and whether a server will do
grants.py               what each role may do, and what is missing of that
settings.py encode.py   what all packages share: settings from the environment, what PostgreSQL takes
"""
