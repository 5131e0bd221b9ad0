"""Answers Graph calls: token, then object, then fault, then the operation; each leaves an entry in the journal."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from publisher.sandbox import answers, batch, interference, tokens, usage
from publisher.sandbox.calls import Call, resolve
from publisher.sandbox.clock import Clock
from publisher.sandbox.endpoints import Endpoint
from publisher.sandbox.faults import Fault, Faults
from publisher.sandbox.graph_error import GraphError, encode
from publisher.sandbox.hosts import VERSION, Host, Site, locate
from publisher.sandbox.interference import Dropped, Outcome, RawAnswer
from publisher.sandbox.journal import Entry, Journal
from publisher.sandbox.objects import Account, Platform, Token
from publisher.sandbox.operations import Operations
from publisher.sandbox.parameters import Parameters, bearer, read_parameters
from publisher.sandbox.uploads import resolve_upload
from publisher.sandbox.world import World

_JSON: Final = "application/json; charset=UTF-8"
# Calls about a token and no object; all are GET.
_ABOUT_TOKENS: Final = {
    ("debug_token",): Endpoint.DEBUG_TOKEN,
    ("oauth", "access_token"): Endpoint.EXCHANGE_TOKEN,
    ("refresh_access_token",): Endpoint.REFRESH_TOKEN,
}
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Reply:
    """An answer before it is sent; none is sent where the connection is dropped."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class Incoming:
    """A call as it came in, by itself or in a batch."""

    request: web.BaseRequest
    method: str
    site: Site
    parameters: Parameters
    entry: Entry
    reply: Reply


class Responder:
    """Turns requests into Graph's answers, never into an error that Graph does not know."""

    def __init__(self, world: World, clock: Clock, operations: Operations, faults: Faults, journal: Journal) -> None:
        self._world = world
        self._clock = clock
        self._operations = operations
        self._faults = faults
        self._journal = journal

    async def respond(self, request: web.BaseRequest) -> web.Response:
        """Return the answer of one call, or of a batch of them."""
        site = locate(request, request.path)
        entry = self._enter(request.method, request.path)
        try:
            parameters = await self._read(request, site)
        except (ConnectionError, web.RequestPayloadError):
            self._journal.counts[entry.endpoint] += 1
            return _send(request, Reply(dropped=True))
        except Exception:
            _logger.exception("call.unread")
            self._journal.counts[entry.endpoint] += 1
            unread = Incoming(request, request.method, site, Parameters({}), entry, Reply())
            return _send(request, self._refuse(answers.unknown_failure(), unread))
        if not site.segments and request.method == "POST" and "batch" in parameters.values:
            return _send(request, await self._answer_batch(request, site, parameters, entry))
        return _send(request, await self._answer(Incoming(request, request.method, site, parameters, entry, Reply())))

    async def _read(self, request: web.BaseRequest, site: Site) -> Parameters:
        """Read the parameters and the token; a file that is uploaded stays unread."""
        parameters = Parameters(dict(request.query)) if site.is_upload else await read_parameters(request)
        parameters.token = parameters.values.get("access_token") or bearer(request)
        return parameters

    async def _answer(self, incoming: Incoming) -> Reply:
        entry, reply = incoming.entry, incoming.reply
        reply.headers["facebook-api-version"] = incoming.site.version or VERSION
        try:
            call = self._receive(incoming)
            outcome = await self._carry_out(call, incoming)
        except GraphError as refused:
            return self._refuse(refused, incoming)
        except (ConnectionError, web.RequestPayloadError):
            outcome = Dropped()
        except Exception:
            # A bug of the sandbox must not look like a broken server to the client that it is there to test.
            _logger.exception("call.failed")
            return self._refuse(answers.unknown_failure(), incoming)
        finally:
            self._journal.counts[entry.endpoint] += 1
        match outcome:
            case Dropped():
                entry.dropped = reply.dropped = True
            case RawAnswer(status, text):
                entry.status = reply.status = status
                reply.body = text.encode("utf-8", "replace")
                reply.headers["Content-Type"] = "text/html; charset=utf-8"
            case GraphError():
                return self._refuse(outcome, incoming)
            case body:
                entry.status = 200
                reply.body = encode(body)
                reply.headers["Content-Type"] = _JSON
        return reply

    def _receive(self, incoming: Incoming) -> Call:
        """Check the token, then find out what is called; usage headers are due from here on."""
        site, parameters, headers = incoming.site, incoming.parameters, incoming.reply.headers
        if site.is_upload:
            return self._receive_upload(incoming)
        incoming.entry.parameters = values = parameters.values
        endpoint = _ABOUT_TOKENS.get(site.segments) if incoming.method == "GET" else None
        token: Token | None = None
        if endpoint is not Endpoint.EXCHANGE_TOKEN:
            token = tokens.authenticate(self._world, parameters.token, values, site.host, self._clock.now())
        if endpoint is not None and (token is not None or endpoint is not Endpoint.REFRESH_TOKEN):
            call = Call(endpoint, incoming.request, "GET", site, parameters, None, None, token)
            headers["X-App-Usage"] = usage.APP_USAGE
        else:
            try:
                call = resolve(
                    self._world, token, incoming.request, method=incoming.method, site=site, parameters=parameters
                )
            except GraphError:
                # An error has the header too: of an account of the token's, where none is named.
                self._add_usage(next(iter(token.accounts.values()), None) if token else None, headers)
                raise
            self._add_usage(call.account, headers)
        _note(call, incoming.entry)
        if parameters.problem is not None:
            raise answers.invalid_parameter(parameters.problem)
        return call

    def _receive_upload(self, incoming: Incoming) -> Call:
        """Find what an upload is for: the upload host answers a bad token and a bad id alike, and takes no proof."""
        incoming.entry.endpoint = Endpoint.UPLOAD_VIDEO
        token = self._world.tokens.get(incoming.parameters.token or "")
        call = resolve_upload(self._world, token, incoming.request, incoming.site)
        assert call.token is not None
        dead = tokens.state_error(call.token, self._clock.now())
        if dead is not None:
            dead.status = self._world.switches.http_status_190
            raise dead
        incoming.entry.parameters = call.values
        _note(call, incoming.entry)
        self._add_usage(call.account, incoming.reply.headers)
        return call

    async def _carry_out(self, call: Call, incoming: Incoming) -> Outcome:
        entry, headers = incoming.entry, incoming.reply.headers
        fault = self._faults.claim(call)
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

    async def _answer_batch(self, request: web.BaseRequest, site: Site, parameters: Parameters, entry: Entry) -> Reply:
        """Answer each call of a batch by itself, one after another; a dropped one is null."""
        entry.endpoint, entry.parameters = "batch", parameters.values
        outer = Incoming(request, "POST", site, parameters, entry, Reply())
        self._journal.counts[entry.endpoint] += 1
        try:
            parts = batch.read(parameters)
            if not all(part.token for part in parts):
                tokens.authenticate(self._world, parameters.token, parameters.values, site.host, self._clock.now())
            rows = [await self._answer_part(outer, part) for part in parts]
        except GraphError as refused:
            return self._refuse(refused, outer)
        entry.status = 200
        return Reply(headers={"Content-Type": _JSON}, body=encode(rows))

    async def _answer_part(self, outer: Incoming, part: batch.Part) -> dict[str, object] | None:
        site = part.locate(outer.site)
        entry = self._enter(part.method, "/" + "/".join(site.segments))
        reply = await self._answer(
            Incoming(outer.request, part.method, site, part.parameters(outer.parameters), entry, Reply())
        )
        return None if reply.dropped else batch.row(reply.status, reply.headers, reply.body)

    def _enter(self, method: str, path: str) -> Entry:
        entry = Entry(self._clock.now(), method, path)
        self._journal.entries.append(entry)
        return entry

    def _refuse(self, error: GraphError, incoming: Incoming) -> Reply:
        entry, reply, switches = incoming.entry, incoming.reply, self._world.switches
        if incoming.site.host is Host.INSTAGRAM and error.code != 190:
            error.kind = "IGApiException"
        entry.status, entry.code, entry.subcode = error.status, error.code, error.subcode
        if error.code == 190:
            reply.headers["WWW-Authenticate"] = tokens.challenge(error)
        if error.code in answers.LIMIT_CODES and switches.retry_after_seconds is not None:
            reply.headers["Retry-After"] = str(switches.retry_after_seconds)
        trace_id = self._world.ids.trace()
        reply.headers["x-fb-trace-id"] = trace_id
        reply.headers["Content-Type"] = _JSON
        reply.status = error.status
        reply.body = encode(error.upload_report() if incoming.site.is_upload else error.envelope(trace_id))
        return reply

    def _add_usage(self, account: Account | None, headers: dict[str, str]) -> None:
        switches = self._world.switches
        if account is not None:
            headers["X-Business-Use-Case-Usage"] = usage.business_usage(account)
            if switches.page_usage_header and account.platform is Platform.FACEBOOK:
                headers["X-Page-Usage"] = usage.page_usage(account)
        if account is None or switches.app_usage_header:
            headers["X-App-Usage"] = usage.app_usage(switches.app_usage())


def _note(call: Call, entry: Entry) -> None:
    entry.endpoint = call.endpoint
    entry.account = call.account.id if call.account else None
    entry.media = call.subjects[0] if call.subjects else None


def _add_fault_usage(fault: Fault, account: Account | None, headers: dict[str, str]) -> None:
    if fault.spec.usage is not None and account is not None:
        headers["X-Business-Use-Case-Usage"] = usage.business_usage(account, fault.spec.usage.figures())
    if fault.spec.app_usage is not None:
        headers["X-App-Usage"] = usage.app_usage(fault.spec.app_usage.figures())


def _send(request: web.BaseRequest, reply: Reply) -> web.Response:
    """Build the response, or close the connection without one; what is returned then goes nowhere."""
    if not reply.dropped:
        return web.Response(body=reply.body, status=reply.status, headers=reply.headers)
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
