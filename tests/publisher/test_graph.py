"""One call: an answer, an error or no answer, and no secret anywhere."""

from __future__ import annotations

import hashlib
import hmac
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from publisher.envelope import required_id
from publisher.errors import CircuitOpen, GraphError, NoAnswer, NotSent, Unfinished, redacted
from publisher.graph import GraphClient, appsecret_proof, open_graph
from publisher.metrics import PublisherMetrics
from publisher.placement import Endpoint
from publisher.settings import ProofForm, PublisherSettings
from tests.publisher.stage import serve_answers

pytestmark = pytest.mark.anyio
TOKEN = SecretStr("EAAverysecrettoken")
Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def graph_that(answer: Answer, **changes: object) -> AsyncIterator[GraphClient]:
    async with serve_answers(answer) as url:
        settings = PublisherSettings.model_validate({"graph_url": url, **changes})
        async with open_graph(settings, PublisherMetrics(CollectorRegistry())) as graph:
            yield graph


def always(body: str, status: int = 200, content_type: str = "application/json") -> Answer:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=body, status=status, content_type=content_type)

    return answer


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("<html>Sorry, something went wrong</html>", 200),
        ("Service Unavailable", 200),
        ("", 500),
        ("[]", 200),
        ('{"success": false}', 200),
        ('{"error": "no envelope"}', 400),
        ('{"id": "17"}', 503),
        ('{"cut": ', 200),
        ("", 302),
    ],
)
async def test_what_is_no_answer_is_no_answer(body: str, status: int) -> None:
    """HTML with 200, an empty 500, success false, a redirect: nothing definite."""
    async with graph_that(always(body, status)) as graph:
        with pytest.raises(NoAnswer) as caught:
            await graph.post(Endpoint.MEDIA_PUBLISH, "1/media_publish", TOKEN, {"creation_id": "2"})
        assert not isinstance(caught.value, NotSent)


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_an_envelope_is_an_error_under_any_status(status: int) -> None:
    """Code, subcode and trace are read."""
    numbers = '"code":-2,"error_subcode":2207003,"is_transient":false,"fbtrace_id":"A1"'
    body = f'{{"error":{{"message":"Nope","type":"X",{numbers}}}}}'
    async with graph_that(always(body, status)) as graph:
        with pytest.raises(GraphError) as caught:
            await graph.get(Endpoint.CONTAINER, "17", TOKEN, {})
    error = caught.value
    assert (error.code, error.subcode, error.status, error.fbtrace_id, error.is_transient) == (
        -2,
        2207003,
        status,
        "A1",
        False,
    )


async def test_a_time_out_is_no_answer() -> None:
    """The call may have gone through."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        await anyio.sleep_forever()
        return web.Response()

    async with graph_that(answer, publish_seconds=0.2) as graph:
        with pytest.raises(NoAnswer) as caught:
            await graph.post(Endpoint.MEDIA_PUBLISH, "1/media_publish", TOKEN, {})
        assert not isinstance(caught.value, NotSent)


async def test_an_answer_is_read_whole_and_its_connection_used_again() -> None:
    """Whether it comes at once or in pieces."""
    peers = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        peers.append(request.transport.get_extra_info("peername"))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for piece in (b'{"id"', b': "1', b'7"}'):
            await response.write(piece)
            await anyio.sleep(0.01 if len(peers) == 1 else 0)
        return response

    async with graph_that(answer) as graph:
        assert [await graph.get(Endpoint.CONTAINER, "17", TOKEN, {}) for _ in range(2)] == [{"id": "17"}] * 2
    assert len(peers) == 2
    assert len(set(peers)) == 1


async def test_an_answer_without_end_is_no_answer_and_its_connection_is_closed() -> None:
    """No more of it is taken in than an answer may have."""
    closed = anyio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(1024 * 1024))
        except ConnectionError:
            closed.set()
            raise

    async with graph_that(answer) as graph:
        with pytest.raises(NoAnswer, match="ValueError"):
            await graph.get(Endpoint.CONTAINER, "17", TOKEN, {})
        with anyio.fail_after(60):
            await closed.wait()


async def test_a_connection_that_is_cut_is_no_answer_and_the_call_is_not_repeated() -> None:
    """One request arrives."""
    arrived = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        arrived.append(request.path)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with graph_that(answer) as graph:
        with pytest.raises(NoAnswer) as caught:
            await graph.post(Endpoint.MEDIA_PUBLISH, "1/media_publish", TOKEN, {})
        assert not isinstance(caught.value, NotSent)
    assert len(arrived) == 1


async def test_a_refused_connection_was_not_sent() -> None:
    """Nothing listens: nothing can have gone through."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    settings = PublisherSettings(graph_url=url)
    async with open_graph(settings, PublisherMetrics(CollectorRegistry())) as graph:
        with pytest.raises(NotSent):
            await graph.post(Endpoint.MEDIA_PUBLISH, "1/media_publish", TOKEN, {})


async def test_the_token_is_in_no_address_and_the_proof_goes_along() -> None:
    """A proxy that logs addresses learns no token."""
    seen: list[tuple[str, str, dict[str, object]]] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        seen.append((str(request.url), request.headers["Authorization"], dict(await request.post())))
        return web.json_response({"id": "17"})

    async with graph_that(answer, app_secret="app secret") as graph:
        await graph.post(Endpoint.CREATE_CONTAINER, "1/media", TOKEN, {"image_url": "https://a.example/b.jpg?c=d&e"})
        await graph.get(Endpoint.CONTAINER, "17", TOKEN, {"fields": "status"})
    (post_url, authorization, form), (get_url, _, _) = seen
    assert authorization == f"Bearer {TOKEN.get_secret_value()}"
    assert TOKEN.get_secret_value() not in post_url + get_url
    assert form["image_url"] == "https://a.example/b.jpg?c=d&e"
    assert form["appsecret_proof"] == hmac.new(b"app secret", b"EAAverysecrettoken", hashlib.sha256).hexdigest()
    assert "appsecret_proof" in get_url
    assert "appsecret_proof" not in post_url


async def test_a_token_of_instagram_login_is_not_proved_with_the_secret_of_the_facebook_app() -> None:
    """It is of an Instagram app, with a secret of its own: a proof with another is wrong, and Meta refuses the call."""
    seen: list[str] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(f"{request.url} {await request.text()}")
        return web.json_response({"id": "17"})

    token = SecretStr("IGAAverysecrettoken")
    async with graph_that(answer, app_secret="app secret") as graph:
        await graph.post(Endpoint.CREATE_CONTAINER, "1/media", token, {"image_url": "https://a.example/b.jpg"})
        await graph.get(Endpoint.CONTAINER, "17", token, {"fields": "status"})
        await graph.refresh(token)
    assert len(seen) == 3
    assert not any("proof" in each for each in seen)


@pytest.mark.parametrize("address", ["https://evil.example/upload", "/upload", "https://["])
async def test_an_upload_goes_to_metas_host_only(address: str) -> None:
    """An address elsewhere in an answer does not get the token, nor does what is none."""
    async with graph_that(always("{}")) as graph:
        with pytest.raises(NotSent):
            await graph.upload(address, TOKEN, "https://a.example/b.mp4")


@pytest.mark.parametrize("takes", [True, False], ids=["takes", "is stuck"])
async def test_a_host_that_takes_bytes_until_the_time_is_over_has_not_failed(takes: bool) -> None:
    """A large video goes in several goes; a host that takes none of it is down."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        while takes:
            await request.content.readany()
            await anyio.sleep(0.01)
        await anyio.sleep_forever()
        raise AssertionError

    async def zeros() -> AsyncIterator[bytes]:
        while True:
            yield bytes(65_536)

    async with graph_that(answer, upload_seconds=2, circuit_failures=1) as graph:
        url = f"{graph._base}/upload"
        for expected in (Unfinished, Unfinished) if takes else (NoAnswer, CircuitOpen):
            with pytest.raises(NoAnswer) as raised:
                await graph.send(url, TOKEN, zeros(), offset=0, size_bytes=10**12)
            assert type(raised.value) is expected


async def test_an_error_repeats_neither_token_nor_address() -> None:
    """Meta quotes both at times."""
    body = '{"error":{"message":"Bad EAAverysecrettoken at https://a.example/secret.jpg now","code":100}}'
    async with graph_that(always(body, 400)) as graph:
        with pytest.raises(GraphError) as caught:
            await graph.get(Endpoint.MEDIA, "17", TOKEN, {})
    assert str(caught.value) == "Graph answered media with error 100: Bad <token> at <url> now"


def test_redaction_knows_both_families_of_tokens_and_bounds_the_text() -> None:
    """Facebook's and Instagram's, in any text."""
    assert redacted("a EAAB1234567890 b IGAA1234567890_-x c") == "a <token> b <token> c"
    assert len(redacted("x" * 10_000)) == 300


def test_the_timed_proof_covers_token_and_time() -> None:
    """Its message is token, bar, seconds, and it is sent with its time."""
    proof = appsecret_proof(ProofForm.TIMED, SecretStr("s"), SecretStr("t"), 1_700_000_000)
    assert proof == {
        "appsecret_proof": hmac.new(b"s", b"t|1700000000", hashlib.sha256).hexdigest(),
        "appsecret_time": "1700000000",
    }
    assert appsecret_proof(ProofForm.OFF, SecretStr("s"), SecretStr("t"), 0) == {}


@pytest.mark.parametrize(("value", "expected"), [("17", "17"), (1454521203100646, "1454521203100646"), ("1_2", "1_2")])
def test_ids_are_text_whatever_meta_sends(value: object, expected: str) -> None:
    """post_id has been seen as a number and as text."""
    assert required_id(Endpoint.PHOTOS, {"id": value}, "id") == expected


@pytest.mark.parametrize("value", [None, True, "", "../me", "17?x=y", 1.5])
def test_what_is_no_id_is_no_answer(value: object) -> None:
    """An id goes into an address."""
    with pytest.raises(NoAnswer):
        required_id(Endpoint.PHOTOS, {"id": value}, "id")
