"""Tokens and media addresses reach no log, outcome, step or metric."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from outbox.outcome import Published
from tests.publisher.stage import KINDS, PREPARING, PUBLISHING, Stage

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", KINDS)
async def test_no_secret_gets_out(stage: Stage, kind: str) -> None:
    """Through failures whose messages quote both, a reconciliation and a success."""
    owner = await stage.owner(kind.split(maxsplit=1)[0])
    message = f"Can't read {stage.media_url}/story.jpg with {owner.token}"
    await stage.graph.fault(PREPARING[kind], "error", code=1, message=message)
    await stage.graph.fault(PUBLISHING[kind], "apply_then_error", code=2, status=500, message=message)
    event = await stage.approve(kind)
    with capture_logs() as logs:
        play = await stage.play(event)
    assert isinstance(play.end, Published), play.outcomes
    kept = await stage.rows("select detail::text from outbox.steps union all select context::text from outbox.attempts")
    everything = repr((logs, play.outcomes, kept)) + generate_latest(stage.registry).decode()
    assert owner.token not in everything
    assert stage.media_url not in everything
    assert {entry["event"] for entry in logs} == {
        "media.prepared",
        "publish.failed",
        "publish.reconciled",
        "post.published",
        "variant.looked_up",
    }


async def test_the_metrics_name_no_account_and_no_event(stage: Stage) -> None:
    """Label values are of closed sets."""
    event = await stage.approve("instagram image")
    await stage.play(event)
    text = generate_latest(stage.registry).decode()
    assert (await stage.owner("instagram")).id not in text
    assert stage.metric("outbox_graph_request_seconds_count", endpoint="media_publish") == 1
    assert stage.metric("outbox_graph_errors_total", reaction="reconcile") == 0
