"""Carries a call out under a scripted fault."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, assert_never

import anyio

from publisher.sandbox import answers
from publisher.sandbox.calls import Call
from publisher.sandbox.fault_spec import FaultSpec
from publisher.sandbox.faults import Fault
from publisher.sandbox.graph_error import GraphError
from publisher.sandbox.known_errors import known_error
from publisher.sandbox.settings import Switches

Operation = Callable[[], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """A body that is not Graph's JSON, as a proxy in between can send."""

    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """No answer: the connection is closed."""


Outcome = dict[str, Any] | GraphError | RawAnswer | Dropped


# "Unknown upload error" (Meta: Instagram error codes).
FAILED_MEDIA: Final = 2207053
GIVEN_BACK_WHEN_REFUSED: Final = frozenset({"apply_then_error", "apply_then_drop", "pause_after"})


async def interfere(
    fault: Fault, call: Call, operation: Operation, is_gone: Callable[[], bool], switches: Switches
) -> Outcome:
    """Carry `operation` out, or not, as the fault says.

    Only `pause_before` minds a client that goes: any other call is carried out whether or not somebody still
    waits for its answer, as on Meta's side.

    Raises:
        GraphError: the operation's own refusal; the scripted ones are answered, not raised.
    """
    spec = fault.spec
    match spec.action:
        case "error":
            fault.hit()
            await anyio.sleep(spec.delay_seconds)
            return scripted_answer(spec, call, switches)
        case "drop":
            fault.hit()
            await anyio.sleep(spec.delay_seconds)
            return Dropped()
        case "delay":
            fault.hit()
            await anyio.sleep(spec.delay_seconds)
            return await operation()
        case "fail_media":
            call.failing_subcode = spec.subcode or FAILED_MEDIA
            body = await operation()
            fault.hit()
            return body
        case "pause_before":
            decision = await fault.hold(is_gone)
            if decision.apply:
                body = await operation()
                return Dropped() if decision.drop else body
            return Dropped() if decision.drop else scripted_answer(spec, call, switches)
        case "apply_then_error" | "apply_then_drop" | "pause_after":
            return await _apply_then(fault, call, operation, is_gone, switches)
        case never:
            assert_never(never)


def scripted_answer(spec: FaultSpec, call: Call, switches: Switches) -> Outcome:
    """Return the answer that a fault scripts; with neither code nor body, Graph's "service" error."""
    if spec.body is not None:
        return RawAnswer(spec.status or 200, spec.body)
    return scripted_error(spec, call, switches)


def scripted_error(spec: FaultSpec, call: Call, switches: Switches) -> GraphError:
    """Return a known error's own words, where the script does not replace them."""
    code = 2 if spec.code is None else spec.code
    known = known_error(code, spec.subcode, call)
    error = known or GraphError(f"(#{code}) Scripted fault", code=code, subcode=spec.subcode)
    if (error.code, error.subcode) == (4, 2207051):
        error.status = switches.http_status_2207051
    if error.code in answers.LIMIT_CODES:
        error.status = error.status if error.subcode else switches.http_status_limits
    if error.code == 190:
        error.status = switches.http_status_190
    error.status = spec.status or error.status
    error.message = error.message if spec.message is None else spec.message
    error.kind = error.kind if spec.type is None else spec.type
    error.is_transient = error.is_transient if spec.is_transient is None else spec.is_transient
    return error


async def _apply_then(
    fault: Fault, call: Call, operation: Operation, is_gone: Callable[[], bool], switches: Switches
) -> Outcome:
    try:
        body = await operation()
    except GraphError:
        fault.give_back()
        raise
    if fault.spec.action == "pause_after":
        decision = await fault.hold(is_gone)
        return Dropped() if decision.drop else body
    fault.hit()
    await anyio.sleep(fault.spec.delay_seconds)
    if fault.spec.action == "apply_then_drop":
        return Dropped()
    return scripted_answer(fault.spec, call, switches)
