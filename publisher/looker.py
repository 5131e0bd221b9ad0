"""Looks what became of a call, and keeps what each look found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from outbox.event import JsonObject
from outbox.ledger import Ledger, Step
from publisher.metrics import PublisherMetrics
from publisher.placement import MediaType, Medium, Placement, PostType
from publisher.reconcile import Evidence, Verdict, candidates, decide
from publisher.settings import PublisherSettings
from publisher.trail import RECONCILE, Trail
from publisher.variants import Variant

KnownElsewhere = Callable[[Sequence[str]], Awaitable[frozenset[str]]]
"""Returns those of some remote ids that other events published."""

UnnamedElsewhere = Callable[[datetime], Awaitable[int]]
"""Returns how many other events of the account were published since shortly before an instant, nobody knows as what."""

log = structlog.get_logger()


def intended_of(trail: Trail, variant: Variant) -> Variant:
    """Return what an intent was about that is looked for: as that, whatever became of the variant since."""
    intent = trail.ledger.open_intent() or trail.doubted()
    if intent is None:
        return variant
    # Intents of the first release are stories.
    placement = intent.detail.get("placement", "story")
    shown = intent.detail["media_type"]
    if placement == variant.placement and (not variant.media or shown in {"carousel", variant.media[0].media_type}):
        return variant
    medium = Medium(MediaType.VIDEO if shown == "video" else MediaType.IMAGE, "")
    return variant._replace(placement=placement, media=(medium,))


@dataclass(frozen=True, slots=True)
class Looker:
    """Looks for one event.

    Attributes:
        intended: What an intent was about whose end is open, or was only inferred: what is published now, but where the
            variant has changed since.
        ledger: The event's steps.
        trail: What they say.
        known_elsewhere: Which remote ids are other events'.
        unnamed_elsewhere: How many of the account's posts may be other events'.
        settings: How patient to be.
        metrics: Where verdicts are counted.
    """

    intended: Placement
    ledger: Ledger
    trail: Trail
    known_elsewhere: KnownElsewhere
    unnamed_elsewhere: UnnamedElsewhere
    settings: PublisherSettings
    metrics: PublisherMetrics

    async def look(self, intent: Step, asked_after: float) -> Evidence:
        """Look at what an intent was about, so many seconds after it. Raises GraphError, NoAnswer."""
        called_at = self.trail.called_at(intent)
        # Intents of the first release name one handle, and no text.
        handles = intent.detail.get("handles", [intent.detail["handle"]])
        sight = await self.intended.look(handles, called_at)
        known = await self.known_elsewhere([post.id for post in sight.live])
        gone_since = self.trail.gone_since(intent)
        return Evidence(
            handles=tuple(handles),
            names_its_handle=self.intended.names_its_handle,
            post_type=PostType(intent.detail["media_type"]),
            text_digest=intent.detail.get("text"),
            intent_at=called_at,
            seconds_after_intent=asked_after,
            live_before=frozenset(intent.detail["live_before"]),
            known_elsewhere=known,
            sight=sight,
            negative_looks=self.trail.negative_looks(intent),
            unnamed_elsewhere=await self.unnamed_elsewhere(called_at),
            gone_seconds=0.0 if gone_since is None else asked_after - gone_since,
        )

    async def judge(self, evidence: Evidence) -> tuple[Verdict, JsonObject]:
        """Return the verdict on what a look found, and keep both."""
        settings = self.settings
        patience = settings.reconcile_seconds
        if evidence.sight.only_listed:
            patience = max(patience, settings.list_lag_seconds)
        verdict = decide(evidence, patience, settings.gone_seconds)
        name = type(verdict).__name__.lower()
        self.metrics.reconciled.labels(name).inc()
        found: JsonObject = {
            "look": evidence.negative_looks + 1,
            "seconds_after_intent": round(evidence.seconds_after_intent, 3),
            "state": evidence.sight.status.state.value,
            "live": [post.id for post in evidence.sight.live],
            "candidates": candidates(evidence),
            "verdict": name,
        }
        await self.ledger.done(RECONCILE, found)
        log.info("publish.reconciled", event_id=self.ledger.event.id, verdict=name, look=found["look"])
        return verdict, found
