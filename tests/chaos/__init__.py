"""Everything at once: relay processes, a server, a network and a Graph API that fail at random, from a seed.

ground.py    what runs: PostgreSQL, sandbox, and relays behind proxies of their own
load.py      what is emitted meanwhile: variants of all placements, and ticks in sequences
ticks.py     the handler of the ticks, an installed project of its own
faults.py    what goes wrong: one function a fault
verdict.py   what must be true afterwards, by the database's and the sandbox's own records

soak.py      thousands of variants, every fault of the Graph API at once, and relays that are killed
"""
