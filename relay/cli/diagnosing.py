"""`outbox doctor`: what is wrong, and what to do."""

from __future__ import annotations

import typer

from relay.cli.printing import JsonFlag, print_json, print_table

WARNED = 3
"""Exit status where the worst finding is a warning; 1 where it is a failure."""


def doctor(as_json: JsonFlag = False) -> None:
    """Examine the database and what the relays make of it; change nothing.

    Each line: ok, warn or fail, what was found, what to do. The exit status is
    of the worst: 0 all is well, 3 a warning, 1 a failure. Run it with the
    relay's OUTBOX_DSN to see what the relay sees.
    """
    import anyio  # noqa: PLC0415 (help needs none of it)

    from outbox.doctor.examination import examine  # noqa: PLC0415
    from outbox.doctor.finding import Level, worst  # noqa: PLC0415
    from relay.cli.connection import address, listener_address  # noqa: PLC0415

    findings = anyio.run(examine, address(), listener_address())
    if as_json:
        for each in findings:
            print_json(each)
    else:
        rows = [(each.level, each.check, each.found, each.advice) for each in findings]
        print_table(("", "check", "found", "what to do"), rows)
    match worst(findings):
        case Level.FAIL:
            raise typer.Exit(1)
        case Level.WARN:
            raise typer.Exit(WARNED)
        case Level.OK:
            return
