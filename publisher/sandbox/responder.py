"""Answers Graph calls: token, then object, then fault, then the operation; each leaves an entry in the journal."""

from __future__ import annotations

import logging

from aiohttp import web

from publisher.sandbox import answers, interference, tokens, usage
from publisher.sandbox.answers import GraphError, encode
from publisher.sandbox.calls import Call, Endpoint, resolve
from publisher.sandbox.clock import Clock
from publisher.sandbox.faults import Fault, Faults
from publisher.sandbox.interference import Dropped, Outcome, RawAnswer
from publisher.sandbox.journal import Entry, Journal
from publisher.sandbox.objects import Account
from publisher.sandbox.operations import Operations
from publisher.sandbox.parameters import bearer, read_parameters, split_path
from publisher.sandbox.uploads import resolve_upload
from publisher.sandbox.world import World

_UPLOAD_HOST = "video-upload"
_VERSION = "v25.0"
_logger = logging.getLogger(__name__)


class Responder:
    """Turns requests into Graph's answers, never into an error that Graph does not know."""

    def __init__(self, world: World, clock: Clock, operations: Operations, faults: Faults, journal: Journal) -> None:
        self._world = world
        self._clock = clock
        self._operations = operations
        self._faults = faults
        self._journal = journal

    async def respond(self, request: web.BaseRequest) -> web.Response:
        """Return the answer of one call."""
        entry = Entry(self._clock.now(), request.method, request.path)
        self._journal.entries.append(entry)
        version, segments = split_path(request.path)
        headers = {"facebook-api-version": version or _VERSION}
        is_upload = bool(segments) and segments[0] == _UPLOAD_HOST
        try:
            call = await self._receive(request, segments, entry, headers, is_upload=is_upload)
            outcome = await self._carry_out(call, entry, headers)
        except GraphError as refused:
            return self._refuse(refused, entry, headers, is_upload=is_upload)
        except (ConnectionError, web.RequestPayloadError):
            return _drop(request, entry)
        except Exception:
            # A bug of the sandbox must not look like a broken server to the client that it is there to test.
            _logger.exception("call.failed")
            return self._refuse(answers.unknown_failure(), entry, headers, is_upload=is_upload)
        finally:
            self._journal.counts[entry.endpoint] += 1
        match outcome:
            case Dropped():
                return _drop(request, entry)
            case RawAnswer(status, text):
                entry.status = status
                return web.Response(text=text, status=status, headers=headers, content_type="text/html")
            case GraphError():
                return self._refuse(outcome, entry, headers, is_upload=is_upload)
            case body:
                entry.status = 200
                return _json(encode(body), 200, headers)

    async def _receive(
        self,
        request: web.BaseRequest,
        segments: list[str],
        entry: Entry,
        headers: dict[str, str],
        *,
        is_upload: bool,
    ) -> Call:
        """Check the token, then find out what is called; usage headers are due from here on."""
        if is_upload:
            return self._receive_upload(request, segments, entry, headers)
        parameters = await read_parameters(request)
        entry.parameters = parameters.values
        value = parameters.values.get("access_token") or bearer(request)
        token = tokens.authenticate(self._world, value, parameters.values)
        if segments == ["debug_token"] and request.method == "GET":
            call = Call(Endpoint.DEBUG_TOKEN, request, parameters, None, None, None)
            headers["X-App-Usage"] = usage.APP_USAGE
        else:
            self._add_usage(token.accounts[0] if token else None, headers)
            call = resolve(self._world, value, request, segments, parameters)
            self._add_usage(call.account, headers)
        _note(call, entry)
        if parameters.problem is not None:
            raise answers.invalid_parameter(parameters.problem)
        return call

    def _receive_upload(
        self, request: web.BaseRequest, segments: list[str], entry: Entry, headers: dict[str, str]
    ) -> Call:
        value = bearer(request) or request.query.get("access_token")
        entry.endpoint = Endpoint.UPLOAD_VIDEO
        # The upload host answers a bad token and a bad id alike, and takes no proof.
        call = resolve_upload(self._world, value, request, segments[1:])
        assert call.account is not None
        if call.account.token.state != "valid":
            tokens.authenticate(self._world, value, {})
        entry.parameters = call.values
        _note(call, entry)
        self._add_usage(call.account, headers)
        return call

    async def _carry_out(self, call: Call, entry: Entry, headers: dict[str, str]) -> Outcome:
        fault = self._faults.claim(call) if self._faults.by_id else None
        if fault is None:
            return await self._operations.carry_out(call)
        entry.fault = fault.id
        _add_fault_usage(fault, call.account, headers)

        def is_gone() -> bool:
            return call.request.transport is None or call.request.transport.is_closing()

        try:
            return await interference.interfere(
                fault, call, lambda: self._operations.carry_out(call), is_gone, self._world.switches
            )
        except GraphError:
            if fault.spec.action in interference.GIVEN_BACK_WHEN_REFUSED:
                entry.fault = None
                self._add_usage(call.account, headers)
            raise

    def _refuse(self, error: GraphError, entry: Entry, headers: dict[str, str], *, is_upload: bool) -> web.Response:
        entry.status, entry.code, entry.subcode = error.status, error.code, error.subcode
        if error.code == 190:
            headers["WWW-Authenticate"] = tokens.challenge(error)
        trace_id = self._world.ids.trace()
        headers["x-fb-trace-id"] = trace_id
        body = error.upload_report() if is_upload else error.envelope(trace_id)
        return _json(encode(body), error.status, headers)

    def _add_usage(self, account: Account | None, headers: dict[str, str]) -> None:
        if account is not None:
            headers["X-Business-Use-Case-Usage"] = usage.business_usage(account)
        if account is None or self._world.switches.app_usage_header:
            headers["X-App-Usage"] = usage.APP_USAGE


def _note(call: Call, entry: Entry) -> None:
    entry.endpoint = call.endpoint
    entry.account = call.account.id if call.account else None
    entry.media = call.media_url


def _add_fault_usage(fault: Fault, account: Account | None, headers: dict[str, str]) -> None:
    if fault.spec.usage is not None and account is not None:
        headers["X-Business-Use-Case-Usage"] = usage.business_usage(account, fault.spec.usage.figures())
    if fault.spec.app_usage is not None:
        headers["X-App-Usage"] = usage.app_usage(fault.spec.app_usage.figures())


def _json(body: bytes, status: int, headers: dict[str, str]) -> web.Response:
    headers["Content-Type"] = "application/json; charset=UTF-8"
    return web.Response(body=body, status=status, headers=headers)


def _drop(request: web.BaseRequest, entry: Entry) -> web.Response:
    """Close the connection without an answer; what is returned goes nowhere."""
    entry.dropped = True
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
