"""The command line, `outbox`: what people call.

main()               runs a command; the one place that turns an error into a sentence and an exit status
application.py       which commands there are
migrating.py         migrate
running.py           relay, sandbox, demo, settings
events.py            emit, events, show
watching.py          stats, top
replaying.py         replay, replays
interventions.py     cancel, release
resolving.py         unknown list, resolve
holding.py           hold, holds
ownership.py         relays, lanes
diagnosing.py        doctor
media_checking.py    check-media
pruning.py           prune
auditing.py          operations: who changed what, and why
consent.py           --reason, --dry-run, and a question before many events are touched
recovering.py        recover
accounts.py          accounts add, list, show, rotate-keys, generate-key
completing.py        completion
benchmarks.py        bench drain, latency, fairness, emit, idle, horizon, pipeline, recovery, traces
arguments.py         from texts to instants, payloads and headers
connection.py        a connection for one command, to a database that will do
progress.py          a bar for long work
printing.py          data to stdout, words to stderr, no secret to either
sentences.py         from an error to one sentence

Exit status: 0 done, 1 failed, 2 bad usage, 3 a warning of doctor, 70 a relay that hangs, 130 interrupted. Heavy modules
are imported by the commands that need them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence

import typer

from relay.cli.application import Invocation, build
from relay.cli.printing import one_line, say
from relay.redaction import redact

FAILED = 1
BAD_USAGE = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; None takes the arguments of the process."""
    if sys.stdout is None:  # its number is free, and the first connection that is opened would get it
        say("outbox: expected somewhere to print to, found stdout closed: send it to a file, or to /dev/null")
        return FAILED
    invocation = Invocation()
    try:
        status = build().main(
            args=None if arguments is None else list(arguments),
            prog_name="outbox",
            standalone_mode=False,
            obj=invocation,
        )
        sys.stdout.flush()
    except typer.TyperException as error:
        return _tell_bad_usage(error, invocation)
    except typer.Abort:  # Ctrl-C, or the end of the input, at a question
        say("\noutbox: stopped, nothing was done")
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _close_stdout()
        return FAILED
    except SystemExit as ended:
        # A plugin ends the process, or typer, with 1, where whoever read our output has gone.
        if isinstance(ended.code, str):
            say(f"outbox: {one_line(redact(ended.code))}")
        _close_stdout()
        return ended.code if isinstance(ended.code, int) else FAILED if ended.code else 0
    except Exception as error:  # noqa: BLE001 (the border to people: no traceback unless asked for)
        _tell(error, invocation)
        _close_stdout()
        return FAILED
    return status if isinstance(status, int) else 0


def _tell_bad_usage(error: typer.TyperException, invocation: Invocation) -> int:
    context = getattr(error, "ctx", None)
    sentence = " ".join(error.format_message().split()).removeprefix("Invalid value: ").removesuffix(".")
    if not sentence:
        return BAD_USAGE  # no command was given, and typer has printed the help
    where = context.command_path if context is not None else f"outbox {invocation.command or ''}".rstrip()
    # It repeats what was given, and a token or an address may have been given in the wrong place.
    say(f"outbox: {one_line(redact(sentence[:1].lower() + sentence[1:]))}; see {where} --help")
    return BAD_USAGE


def _tell(error: Exception, invocation: Invocation) -> None:
    from relay.cli.sentences import sentence_of  # noqa: PLC0415 (knows every package's errors: slow)

    if invocation.traceback:
        say(redact("".join(traceback.format_exception(error))))
    say(f"outbox: {sentence_of(error)}")


def _close_stdout() -> None:
    """Print what is left; or, where nobody takes it, keep the interpreter from complaining of that at its end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
