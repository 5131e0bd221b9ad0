"""`outbox recover`: after a restore, look before anything is published again, and let the relays work again."""

from __future__ import annotations

import os
import socket
from collections import Counter as Tally
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from relay.cli.consent import DryRunFlag, ReasonOption, YesFlag, ask
from relay.cli.printing import JsonFlag, print_json, print_table, say, to_text
from relay.cli.progress import open_bar

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg import AsyncConnection
    from psycopg.rows import TupleRow

    from outbox.recovery import Candidate, Recoverer, RecoveryState
    from publisher.verifier import Verifier

LIMIT = 1000
PUBLISHED_HERE = "variant.created"
POOL_SIZE_MAX = 2


@dataclass(frozen=True, slots=True)
class Found:
    """What verifying found of one event."""

    event_id: int
    key: str | None
    verdict: Literal["absent", "continues", "live", "person", "unreadable", "not_looked_for"]
    why: str = ""
    remote_id: str | None = None


def recover(
    *,
    verify: Annotated[bool, typer.Option("--verify", help="Look at the accounts for what would be published.")] = False,
    confirm: Annotated[bool, typer.Option("--confirm", help="Let the relays work again.")] = False,
    begin: Annotated[bool, typer.Option("--begin", help="Have all relays stand still, before they notice.")] = False,
    reason: ReasonOption = None,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what would be published again after a restore, look for it, and confirm.

    Without an option: why relays stand still, and the events without a
    receipt. --verify looks at the accounts and publishes nothing: what may be
    live waits for a person from then on. --confirm is refused before that.
    """
    if verify + confirm + begin > 1:
        raise typer.BadParameter("expected one of --verify, --confirm and --begin, found several")
    if begin and not (reason or "").strip():
        raise typer.BadParameter("expected --begin with a --reason, found none")
    if begin:
        _begin(str(reason), dry_run=dry_run, as_json=as_json)
    elif verify:
        _verify(reason, dry_run=dry_run, as_json=as_json)
    elif confirm:
        _confirm(reason, dry_run=dry_run, yes=yes, as_json=as_json)
    elif reason is not None:
        raise typer.BadParameter("expected --reason with --begin, --verify or --confirm, found it alone")
    else:
        _show(as_json)


def _begin(reason: str, *, dry_run: bool, as_json: bool) -> None:
    from outbox import cluster  # noqa: PLC0415 (help needs none of it)
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    async def work(connection: AsyncConnection[TupleRow]) -> None:
        async with connection.transaction(force_rollback=dry_run):
            await cluster.begin_verify_only(connection, reason, must_rebase=False)

    run_with_database(work)
    if as_json:
        print_json({"is_done": not dry_run})
    elif dry_run:
        say("relays would stand still, and no intent would be written, until outbox recover --confirm")
    else:
        say(
            "relays stand still within ten seconds, and no intent is written from now on; then: outbox recover --verify"
        )


def _show(as_json: bool) -> None:
    from outbox.recovery import find_candidates, find_cause, load_state  # noqa: PLC0415 (help needs none of it)
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    async def work(connection: AsyncConnection[TupleRow]) -> tuple[RecoveryState | None, str | None, list[Candidate]]:
        state = await load_state(connection)
        cause = await find_cause(connection) if state is None else state.verify_only_reason
        return state, cause, [] if cause is None else await find_candidates(connection, limit=LIMIT)

    state, cause, candidates = run_with_database(work)
    if cause is None:
        say("relays may work: there is nothing to recover")
        return
    if state is None:
        say(f"relays stand still as soon as one looks: {cause}")
    else:
        say(f"relays stand still since {state.verify_only_since:%Y-%m-%dT%H:%M:%SZ}: {to_text(cause)}")
    if state is not None and state.known_until is not None:
        say(f"what the log knows of is whole until {state.known_until:%Y-%m-%dT%H:%M:%SZ}")
    rows = [(c.event.id, c.event.type, c.event.key, c.reason or "new", c.trace) for c in candidates]
    if as_json:
        for event_id, event_type, key, waits, trace in rows:
            print_json({"event_id": event_id, "type": event_type, "key": key, "reason": waits, "trace": trace})
    else:
        print_table(("event", "type", "key", "reason", "trace"), rows)
    if len(candidates) == LIMIT:
        say(f"only the first {LIMIT} are listed")
    say(f"next: outbox recover {'--verify' if state is None or state.verified_at is None else '--confirm'}")


def _verify(reason: str | None, *, dry_run: bool, as_json: bool) -> None:
    from relay import logs  # noqa: PLC0415 (help needs none of it)
    from relay.cli.connection import address, run_with_database  # noqa: PLC0415

    dsn = address()
    logs.configure("auto", "warning")  # what the publisher has to tell is no data: stdout is for that

    async def work(connection: AsyncConnection[TupleRow]) -> list[Found]:
        return await _verify_all(connection, dsn, reason, dry_run=dry_run)

    found = run_with_database(work)
    if as_json:
        for each in found:
            print_json(each)
    else:
        print_table(
            ("event", "key", "verdict", "why"), [(each.event_id, each.key, each.verdict, each.why) for each in found]
        )
    tally = Tally(each.verdict for each in found)
    say(", ".join(f"{count} {verdict}" for verdict, count in sorted(tally.items())) or "nothing would be published")
    if tally["unreadable"]:
        say("outbox: expected to look for every event, found some unreadable; mend that, or cancel them")
        raise typer.Exit(1)
    say(f"next: outbox recover {'--verify' if dry_run else '--confirm'}")


async def _verify_all(
    connection: AsyncConnection[TupleRow], dsn: str, reason: str | None, *, dry_run: bool
) -> list[Found]:
    from importlib.metadata import version  # noqa: PLC0415 (help needs none of it)

    from outbox.database import open_pool  # noqa: PLC0415
    from outbox.errors import Refused  # noqa: PLC0415
    from outbox.recovery import (  # noqa: PLC0415
        be_patient,
        count_candidates,
        every_candidate,
        mark_verified,
        open_recoverer,
        stand_still,
    )
    from publisher.settings import PublisherSettings  # noqa: PLC0415
    from publisher.verifier import open_verifier  # noqa: PLC0415

    state = await stand_still(connection, dry_run=dry_run)
    if state is None:
        raise Refused("expected relays to stand still, found that they may work: there is nothing to recover")
    assert state.known_until is not None
    await be_patient(connection)
    found: list[Found] = []
    name = f"recover:{socket.gethostname()}:{os.getpid()}"
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(dsn, application_name="outbox-recover", size_max=POOL_SIZE_MAX)
        )
        verifier = await stack.enter_async_context(open_verifier(pool, PublisherSettings.load()))
        recoverer = None
        if not dry_run:
            recoverer = await stack.enter_async_context(
                open_recoverer(connection, name=name, version=version("outbox-relay"))
            )
        advance = stack.enter_context(open_bar("looking", await count_candidates(connection)))
        async for candidate in every_candidate(connection):
            if recoverer is not None:
                await recoverer.renew()
            each = await _look(candidate, verifier, state.known_until)
            if recoverer is not None:
                await _keep(recoverer, candidate, each)
            found.append(each)
            advance(1)
        if recoverer is not None and not any(each.verdict == "unreadable" for each in found):
            await mark_verified(connection, reason)
    return found


async def _keep(recoverer: Recoverer, candidate: Candidate, found: Found) -> None:
    """Write down what was found: the relays go on from it."""
    if found.verdict == "person" and not candidate.waits_for_a_person:
        await recoverer.park(candidate, found.why)
    elif found.verdict == "live":
        await recoverer.found_live(candidate, "publish", found.remote_id)


async def _look(candidate: Candidate, verifier: Verifier, known_until: datetime) -> Found:
    from publisher.reconcile import Absent, Live, Person  # noqa: PLC0415 (help needs none of it)
    from publisher.verify import Continues, Unreadable  # noqa: PLC0415

    event = candidate.event
    if candidate.waits_for_a_person:
        return Found(event.id, event.key, "person", "it waits for a person already")
    if event.type != PUBLISHED_HERE:
        return Found(event.id, event.key, "not_looked_for", f"{event.type} has no look: its handler is called (again)")
    match await verifier.verify(event, candidate.steps, known_until):
        case Absent():
            return Found(event.id, event.key, "absent", "nothing like it is live: it will be published")
        case Continues():
            return Found(event.id, event.key, "continues", "its steps tell the relay to look first, or to end it")
        case Live(remote_id):
            why = "what it prepared was published" if remote_id is None else "a live post names what it prepared"
            return Found(event.id, event.key, "live", why, remote_id)
        case Person(why):
            return Found(event.id, event.key, "person", why)
        case Unreadable(why):
            return Found(event.id, event.key, "unreadable", why)


def _confirm(reason: str | None, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    from outbox.recovery import (  # noqa: PLC0415 (help needs none of it)
        be_patient,
        count_candidates,
        end_verify_only,
        load_state,
    )
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    async def count(connection: AsyncConnection[TupleRow]) -> int:
        if await load_state(connection) is None:
            return 0  # nobody is asked about what is refused in the end
        await be_patient(connection)
        return await count_candidates(connection)

    async def work(connection: AsyncConnection[TupleRow]) -> int:
        await be_patient(connection)
        return await end_verify_only(connection, reason, dry_run=dry_run)

    if not (dry_run or yes):
        ask("let relays handle", run_with_database(count), unasked=False)
    stamped_count = run_with_database(work)
    if as_json:
        print_json({"is_done": not dry_run, "stamped_count": stamped_count})
    elif dry_run:
        print(f"relays would work again; {stamped_count} events would get transaction ids of this cluster")
    else:
        print(f"relays may work again; {stamped_count} events got the transaction ids of this cluster")
