"""One call of the Graph API: an answer, a GraphError, or NoAnswer. It repeats nothing and decides nothing.

Tokens travel in the Authorization header, parameters of a POST in the form: proxies log neither. Two calls have a token
in their address, where Meta shows it: `refresh_access_token`, and `debug_token` the one that it inspects. A read's
address has its appsecret_proof, which is of use with that token alone.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from copy import copy
from functools import lru_cache
from typing import NamedTuple, Protocol
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import anyio
import structlog
from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy
from pydantic import SecretStr
from yarl import URL

from outbox import trace
from outbox.event import JsonObject
from publisher.breaker import Breaker
from publisher.envelope import read_answer
from publisher.errors import CircuitOpen, GraphError, MediaUnreachable, NoAnswer, NotSent, Unfinished
from publisher.forwarding import Forwarded
from publisher.metrics import Host, PublisherMetrics
from publisher.placement import IRREVERSIBLE, READS, Endpoint
from publisher.reactions import classify
from publisher.settings import ProofForm, PublisherSettings
from publisher.tokens import is_instagram_login

ANSWER_BYTES_MAX = 4 * 1024 * 1024
UPLOAD_HOST = "rupload.facebook.com"
PROOFS_MAX = 4096
TOKENS_MAX = 4096
QUERIES_MAX = 512
ADDRESSES_MAX = 4096

log = structlog.get_logger()


class _Call(NamedTuple):
    """What is asked of which host, and with which token."""

    endpoint: Endpoint
    method: str
    host: Host
    url: URL | str
    token: SecretStr
    headers: Mapping[str, str]
    data: bytes | aiohttp.FormData | Forwarded | None = None


class UsageReader(Protocol):
    """Takes in what answers say of the limits."""

    def note(self, account: str, headers: Mapping[str, str]) -> None:
        """Read the headers of an answer to an account's call."""


class GraphClient:
    """Calls Graph over one session. Every method raises GraphError or NoAnswer; `send` what its body raises, too.

    A host that answers nobody is left alone for a while: its calls raise CircuitOpen. An irreversible call is made
    all the same, and never queues: its intent is durable, and it must follow that at once or not at all.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: PublisherSettings,
        metrics: PublisherMetrics,
        usage: UsageReader | None = None,
    ) -> None:
        self._session = session
        self._settings = settings
        self._metrics = metrics
        self._usage = usage
        self.account: str | None = None
        self._accounts: dict[str, GraphClient] = {}
        self._limiter = anyio.Semaphore(settings.calls_max)
        self._breakers = {host: Breaker(settings.circuit_failures, settings.circuit_seconds) for host in Host}
        self._took_seconds = {endpoint: metrics.request_seconds.labels(endpoint) for endpoint in Endpoint}
        self._base = f"{settings.graph_url}/{settings.graph_version}"
        self._instagram_base = f"{settings.instagram_base()}/{settings.graph_version}"
        self._timeouts = {endpoint: aiohttp.ClientTimeout(total=self._seconds(endpoint)) for endpoint in Endpoint}

    def of(self, account: str) -> GraphClient:
        """Return this client for the calls of one account: what their answers say of limits is the account's."""
        client = self._accounts.get(account)
        if client is None:
            client = self._accounts[account] = copy(self)
            client.account = account
        return client

    async def get(self, endpoint: Endpoint, path: str, token: SecretStr, parameters: Mapping[str, str]) -> JsonObject:
        """Read an object or an edge."""
        query = _query(*parameters.items(), *self._proof(token).items())
        host, base = self._site(token)
        return await self._call(_Call(endpoint, "GET", host, _encoded(base, path, query), token, _headers(token)))

    async def refresh(self, token: SecretStr) -> JsonObject:
        """Ask for 60 more days for a token of Instagram Login that is a day old (sheet 1.1).

        Meta shows the token in the address here and nowhere says that the header is read.
        """
        query = {"grant_type": "ig_refresh_token", "access_token": token.get_secret_value()}
        url = f"{self._settings.instagram_base()}/refresh_access_token?{urlencode({**query, **self._proof(token)})}"
        return await self._call(_Call(Endpoint.REFRESH_TOKEN, "GET", Host.INSTAGRAM, url, token, _headers(token)))

    async def post(self, endpoint: Endpoint, path: str, token: SecretStr, parameters: Mapping[str, str]) -> JsonObject:
        """Create or publish. aiohttp repeats no POST by itself, not on a stale connection either."""
        form = urlencode({**parameters, **self._proof(token)}).encode("ascii")
        host, base = self._site(token)
        return await self._call(_Call(endpoint, "POST", host, _encoded(base, path), token, _form_headers(token), form))

    async def upload(self, upload_url: str, token: SecretStr, media_url: str) -> JsonObject:
        """Tell the upload host where to fetch a video (Meta: Page Stories API, hosted files)."""
        return await self._upload(upload_url, token, {"file_url": media_url})

    async def send(
        self, upload_url: str, token: SecretStr, body: AsyncIterator[bytes], *, offset: int, size_bytes: int
    ) -> JsonObject:
        """Send the bytes of a video from an offset on to the upload host (sheet 1.4 and 2.2).

        Raises:
            MediaUnreachable: Whoever the bytes come from has failed, not Meta.
        """
        headers = {"offset": str(offset), "file_size": str(size_bytes), "Content-Type": "application/octet-stream"}
        return await self._upload(upload_url, token, headers, Forwarded(body))

    async def post_file(
        self,
        endpoint: Endpoint,
        path: str,
        token: SecretStr,
        parameters: Mapping[str, str],
        *,
        field: str,
        name: str,
        content: bytes,
    ) -> JsonObject:
        """Post a file: a photo whole (Meta: Page photos), or a chunk of a video (Meta: Page videos; sheet 2.4)."""
        form = aiohttp.FormData({**parameters, **self._proof(token)})
        form.add_field(field, content, filename=name, content_type="application/octet-stream")
        host, base = self._site(token)
        return await self._call(_Call(endpoint, "POST", host, _encoded(base, path), token, _headers(token), form))

    async def _upload(
        self, upload_url: str, token: SecretStr, headers: Mapping[str, str], body: Forwarded | None = None
    ) -> JsonObject:
        try:
            host = urlsplit(upload_url).hostname
        except ValueError:
            host = None
        if host not in {UPLOAD_HOST, urlsplit(self._base).hostname}:
            raise NotSent(
                f"expected an upload address at {UPLOAD_HOST}, found another host; the token was not sent there"
            )
        headers = {hdrs.AUTHORIZATION: f"OAuth {token.get_secret_value()}", **headers}
        return await self._call(_Call(Endpoint.VIDEO_UPLOAD, "POST", Host.UPLOAD, upload_url, token, headers, body))

    async def _call(self, call: _Call) -> JsonObject:
        with trace.span(f"graph {call.endpoint}", "client") as span:
            try:
                return await self._in_its_place(call)
            except (GraphError, NoAnswer) as error:
                decision = classify(error, irreversible=call.endpoint in IRREVERSIBLE)
                self._metrics.errors.labels(decision.reaction).inc()
                if span is not None:
                    span.set_attribute("outbox.reaction", str(decision.reaction))
                raise

    async def _in_its_place(self, call: _Call) -> JsonObject:
        """Call once fewer than the most are under way; what can't be taken back does not wait for that."""
        if call.endpoint in IRREVERSIBLE:
            return await self._answer(call)
        try:
            self._limiter.acquire_nowait()  # `acquire` looks for a cancellation first, at each call
        except anyio.WouldBlock:
            await self._limiter.acquire()
        try:
            return await self._answer(call)
        finally:
            self._limiter.release()

    async def _answer(self, call: _Call) -> JsonObject:
        endpoint, host = call.endpoint, call.host
        self._admit(host, is_irreversible=endpoint in IRREVERSIBLE)
        try:
            began_at = time.monotonic()
            try:
                status, headers, body = await self._exchange(call)
            finally:
                self._took_seconds[endpoint].observe(time.monotonic() - began_at)
            if self._usage is not None and self.account is not None:
                self._usage.note(self.account, headers)
            answer = read_answer(endpoint, status, headers, body, call.token)
        except GraphError as error:
            self._heard(host, has_failed=error.status >= 500)
            raise
        except (MediaUnreachable, Unfinished):
            self._breakers[host].told_nothing(time.monotonic())
            raise
        except NoAnswer:
            self._heard(host, has_failed=True)
            raise
        self._heard(host, has_failed=False)
        return answer

    def _admit(self, host: Host, *, is_irreversible: bool) -> None:
        wait_seconds = self._breakers[host].admit(time.monotonic())
        if wait_seconds > 0 and not is_irreversible:
            raise CircuitOpen(f"expected {host} to answer, found that it answers nobody: not called", wait_seconds)

    def _heard(self, host: Host, *, has_failed: bool) -> None:
        """Tell the host's circuit what became of a call; people hear of it once when it opens, once when it closes."""
        breaker = self._breakers[host]
        if has_failed:
            if breaker.failed(time.monotonic()):
                self._metrics.circuit_open.labels(host).set(True)
                log.warning("circuit.opened", host=host, next="one call at a time asks whether it is back")
        elif breaker.answered():
            self._metrics.circuit_open.labels(host).set(False)
            log.info("circuit.closed", host=host)

    def _site(self, token: SecretStr) -> tuple[Host, str]:
        """Each login has a host of its own: a token works at no other (sheet 1.1)."""
        is_instagram = is_instagram_login(token)
        return (Host.INSTAGRAM, self._instagram_base) if is_instagram else (Host.FACEBOOK, self._base)

    async def _exchange(self, call: _Call) -> tuple[int, Mapping[str, str], bytes]:
        timeout = self._timeouts[call.endpoint]
        try:
            response = await self._session.request(
                call.method, call.url, headers=call.headers, data=call.data, timeout=timeout, allow_redirects=False
            )
            return response.status, response.headers, await _read(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            late_seconds = timeout.total if isinstance(error, TimeoutError) else None
            failed = call.data.failure(late_seconds) if isinstance(call.data, Forwarded) else None
            raise failed or _unanswered(call.endpoint, error, timeout) from None

    def _seconds(self, endpoint: Endpoint) -> float:
        if endpoint in IRREVERSIBLE:
            return self._settings.publish_seconds
        if endpoint is Endpoint.VIDEO_UPLOAD:
            return self._settings.upload_seconds
        fetches_media = endpoint not in READS and endpoint is not Endpoint.VIDEO_START
        return self._settings.create_seconds if fetches_media else self._settings.read_seconds

    def _proof(self, token: SecretStr) -> dict[str, str]:
        """Prove a call with the secret of the Facebook app; one of Instagram Login is its Instagram app's."""
        if self._settings.app_secret is None or is_instagram_login(token):
            return {}
        return appsecret_proof(self._settings.proof, self._settings.app_secret, token, int(time.time()))


@asynccontextmanager
async def open_graph(
    settings: PublisherSettings, metrics: PublisherMetrics, usage: UsageReader | None = None
) -> AsyncIterator[GraphClient]:
    """Open a client for as long as the block lasts."""
    # No bound of its own on connections: a call that queued for one would spend its time-out unsent.
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield GraphClient(session, settings, metrics, usage)


def appsecret_proof(form: ProofForm, secret: SecretStr, token: SecretStr, unix_seconds: int) -> dict[str, str]:
    """Return the parameters that prove a call: lower-case hex HMAC-SHA256 with the app's secret as key.

    The timed form is good for five minutes (Meta: Securing Graph API Requests).
    """
    message = token.get_secret_value()
    match form:
        case ProofForm.OFF:
            return {}
        case ProofForm.UNTIMED:
            return {"appsecret_proof": _digest(secret, message)}
        case ProofForm.TIMED:
            proof = _digest(secret, f"{message}|{unix_seconds}")
            return {"appsecret_proof": proof, "appsecret_time": str(unix_seconds)}


def _unanswered(endpoint: Endpoint, error: Exception, timeout: aiohttp.ClientTimeout) -> NoAnswer:
    match error:
        case aiohttp.ClientConnectorError(strerror=why):
            return NotSent(f"expected to reach Graph for {endpoint}, found no connection: {why}")
        case TimeoutError():
            return NoAnswer(f"expected an answer to {endpoint} within {timeout.total:g} s, found none")
        case _:
            return NoAnswer(f"expected an answer to {endpoint}, found {type(error).__name__}")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read an answer to its end, with which its connection is free again; one that fails before is closed with it."""
    content = response.content
    try:
        body = content.read_nowait() if content.is_eof() else await content.readany()
        while len(body) <= ANSWER_BYTES_MAX and not content.at_eof():  # else all of it came with the headers
            body += await content.readany()
        if len(body) > ANSWER_BYTES_MAX:
            raise ValueError("the answer is too large")
    except BaseException:
        response.close()
        raise
    if response.connection is not None:  # a body that was answered too soon is sent no more: its task ends
        await response.wait_for_close()
    return body


@lru_cache(TOKENS_MAX)
def _headers(token: SecretStr) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict({hdrs.AUTHORIZATION: f"Bearer {token.get_secret_value()}"}))


@lru_cache(TOKENS_MAX)
def _form_headers(token: SecretStr) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict({**_headers(token), hdrs.CONTENT_TYPE: "application/x-www-form-urlencoded"}))


@lru_cache(QUERIES_MAX)
def _query(*parameters: tuple[str, str]) -> str:
    """Encode what a read asks for: the same fields again and again."""
    return urlencode(parameters)


@lru_cache(ADDRESSES_MAX)
def _encoded(base: str, path: str, query: str = "") -> URL:
    """Put an address together, encoded once: most calls go to an account's edges, again and again."""
    asked = _asked(base, query)
    return asked.with_path(f"{asked.raw_path}/{quote(path)}", encoded=True, keep_query=True)


@lru_cache(QUERIES_MAX)
def _asked(base: str, query: str) -> URL:
    """Take a base and a query apart: to parse a whole address costs four times as much as to put a path into one."""
    return URL(f"{base}?{query}" if query else base, encoded=True)


@lru_cache(PROOFS_MAX)
def _digest(secret: SecretStr, message: str) -> str:
    return hmac.new(secret.get_secret_value().encode(), message.encode(), hashlib.sha256).hexdigest()
