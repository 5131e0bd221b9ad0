"""One trace, from the application's span through emit and dispatch to settle; nothing of it where nobody asks."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import anyio
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from psycopg.types.json import Jsonb

from outbox.emit import carry_trace
from outbox.emit import emit as write
from outbox.event import Event, EventId
from outbox.ledger import Ledger
from outbox.outcome import Outcome, Published
from outbox.trace import span
from publisher.handler import open_handler
from relay.app import serve
from tests.processes import ROOT
from tests.relay.publishing import open_instagram
from tests.relay.running import Script, Store, eventually, settings, state_is, value, working

pytestmark = pytest.mark.anyio

TRACEPARENT: Final = f"00-{'ab' * 16}-{'cd' * 8}-01"


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """Where the spans of this process go from now on: a process has one provider."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    """The same, empty."""
    exporter.clear()
    yield exporter
    exporter.clear()


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [each for each in spans.get_finished_spans() if each.name == name]


def ids(each: ReadableSpan) -> tuple[int, int | None]:
    """The span's own id and its parent's."""
    assert each.context is not None
    return each.context.span_id, None if each.parent is None else each.parent.span_id


async def test_a_trace_goes_on_from_emit_to_settle(
    database: str, store: Store, script: Script, spans: InMemorySpanExporter
) -> None:
    """The dispatch is a child of the application's span, calls and settle are children of the dispatch."""

    async def call(event: Event, ledger: Ledger) -> Outcome:
        with span("graph media", "client"):
            return Published({"remote_id": "1"})

    script.acts["a"] = [call]
    async with working(settings(database), script):
        with trace.get_tracer("application").start_as_current_span("checkout") as parent:
            event_id = await write(store, "t", {"name": "a"}, key="k", headers={"by": "shop"})
        await state_is(store, event_id, "published")

        async def told() -> bool:
            return bool(named(spans, "outbox settle"))

        await eventually(told)
    assert {each.context.trace_id for each in spans.get_finished_spans() if each.context} == {
        parent.get_span_context().trace_id
    }
    [dispatch], [called], [settle] = (
        named(spans, each) for each in ("outbox dispatch", "graph media", "outbox settle")
    )
    own, above = ids(dispatch)
    assert above == parent.get_span_context().span_id
    assert (ids(called)[1], ids(settle)[1]) == (own, own)
    assert dispatch.attributes is not None
    assert dict(dispatch.attributes) == {
        "outbox.event_id": event_id,
        "outbox.type": "t",
        "outbox.key": "k",
        "outbox.outcome": "Published",
    }
    assert settle.attributes is not None
    assert settle.attributes["outbox.outcome"] == "published"
    assert await value(store, "select headers ->> 'by' from outbox.events") == "shop"


async def test_a_story_is_one_trace_from_the_application_to_each_call_of_graph(
    database: str, store: Store, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publisher's own calls, through a creation that fails and an answer that is lost."""
    async with open_instagram(database) as instagram:
        for name, text in instagram.variables.items():
            monkeypatch.setenv(name, text)
        client = instagram.client
        await client.fault("create_container", "error", code=1)
        await client.fault("publish_container", "apply_then_error", code=2, status=500)
        stop = anyio.Event()
        async with serve(settings(database, lease_seconds=15.0), stop, factories={"variant.created": open_handler}):
            with trace.get_tracer("application").start_as_current_span("checkout") as parent:
                async with store.transaction():
                    await carry_trace(store)
                    create = "select social.create_variant(%s, %s)"
                    await store.execute(create, [instagram.account, instagram.media_url])
            await eventually(partial(has_ended, store), seconds=60)
            await eventually(partial(told, spans, "outbox settle", 2))
            stop.set()
        counts = (await client.control("GET", "counts"))["counts"]
    finished = [each for each in spans.get_finished_spans() if each.name != "checkout"]
    assert {each.context.trace_id for each in finished if each.context} == {parent.get_span_context().trace_id}
    dispatches = {ids(each)[0]: each for each in named(spans, "outbox dispatch")}
    assert {ids(each)[1] for each in dispatches.values()} == {parent.get_span_context().span_id}
    assert len(dispatches) >= 2  # the one whose creation failed, and one that went on
    calls = [each for each in finished if each.name.startswith("graph ")]
    assert len(calls) == sum(counts.values())
    assert {ids(each)[1] for each in calls} <= dispatches.keys()
    assert {"graph media", "graph media_publish"} <= {each.name for each in calls}
    settles = named(spans, "outbox settle")
    assert {ids(each)[1] for each in settles} <= dispatches.keys()  # a short wait stays in memory, and settles nothing
    assert [(each.attributes or {})["outbox.outcome"] for each in settles] == ["waits", "published"]


async def has_ended(store: Store) -> bool:
    return bool(await value(store, "select count(*) from outbox.receipts where outcome = 'published'"))


async def told(spans: InMemorySpanExporter, name: str, count: int) -> bool:
    return len(named(spans, name)) >= count


@pytest.mark.parametrize(
    ("setting", "text", "found"),
    [
        ("outbox.traceparent", TRACEPARENT, TRACEPARENT),
        ("outbox.traceparent", "", None),
        ("request.headers", f'{{"host": "h", "traceparent": "{TRACEPARENT}"}}', TRACEPARENT),
        ("request.headers", f'{{"traceparent":"{TRACEPARENT}"}}', TRACEPARENT),
        ("request.headers", '{"traceparent": "nonsense"}', None),
        ("request.headers", "no JSON", None),
    ],
)
async def test_a_variants_event_carries_the_trace_of_its_transaction(
    store: Store, setting: str, text: str, found: str | None
) -> None:
    """From a setting of any client's, and from the request that PostgREST serves."""
    account = (
        "insert into social.accounts (platform, remote_id, name, token_ciphertext) values ('instagram', '17', 'n', '')"
    )
    await store.execute(account)
    async with store.transaction():
        await store.execute("select set_config(%s, %s, true)", [setting, text])
        await store.execute("select social.create_variant('instagram:17', 'https://cdn.example/a.jpg')")
    assert await value(store, "select headers ->> 'traceparent' from outbox.events") == found


async def test_sql_callers_bring_their_own_context(
    database: str, store: Store, script: Script, spans: InMemorySpanExporter
) -> None:
    """In the headers, as W3C writes it; what is none of that begins a trace of its own."""
    emit = "select outbox.emit('t', '{\"name\": \"a\"}', headers => %s)"
    async with working(settings(database), script):
        for headers in ({"traceparent": TRACEPARENT}, {"traceparent": "nonsense"}, {"traceparent": 7}):
            event_id = EventId(await value(store, emit, [Jsonb(headers)]))
            await state_is(store, event_id, "published")
    traces = [each.context.trace_id for each in named(spans, "outbox dispatch") if each.context is not None]
    assert traces[0] == int("ab" * 16, 16)
    assert len(set(traces)) == 3


async def test_a_failure_leaves_no_text_in_the_trace(
    database: str, store: Store, script: Script, spans: InMemorySpanExporter
) -> None:
    """An exception may quote a token."""

    async def fail(event: Event, ledger: Ledger) -> Outcome:
        with span("graph media"):
            raise RuntimeError("access_token=EAAsesame0123456789")

    script.acts["a"] = [fail, Published()]
    async with working(settings(database), script):
        event_id = await write(store, "t", {"name": "a"})
        await state_is(store, event_id, "published")
    assert len(named(spans, "outbox dispatch")) == 2
    assert "sesame" not in "".join(each.to_json() for each in spans.get_finished_spans())


async def test_baggage_and_nothing_at_all_leave_no_header(store: Store, spans: InMemorySpanExporter) -> None:
    """What applications carry around is none of the event's business."""
    token = context.attach(baggage.set_baggage("customer", "sesame"))
    try:
        await write(store, "t", {})
    finally:
        context.detach(token)
    assert await value(store, "select headers from outbox.events") == {}


def test_who_does_not_ask_imports_nothing() -> None:
    """Not the API either."""
    source = (
        "import sys, outbox.emit, relay.app, relay.tracing, publisher.handler\n"
        "from outbox.trace import current_headers, span\n"
        "with span('x') as nothing: assert nothing is None\n"
        "assert current_headers() == {}\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", source], check=True, cwd=ROOT)


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes spans, as an OpenTelemetry collector does."""

    taken: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        """Keep what is posted."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.taken.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Be quiet."""


def test_spans_reach_a_collector() -> None:
    """Over OTLP, the last ones when the relay ends."""
    taken: list[tuple[str, bytes]] = []
    handler = type("Taking", (Collector,), {"taken": taken})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            source = (
                "from relay.tracing import open_traces\nfrom outbox.trace import span\n"
                "with open_traces('otlp'):\n  with span('outbox dispatch'): pass\n"
            )
            endpoint = f"http://127.0.0.1:{server.server_address[1]}"
            environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
            subprocess.run([sys.executable, "-c", source], check=True, cwd=ROOT, env=environment, timeout=120)
        finally:
            server.shutdown()
            thread.join()
    [(path, body)] = taken
    assert path == "/v1/traces"
    assert b"outbox dispatch" in body
    assert b"outbox-relay" in body
