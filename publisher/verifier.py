"""Looks, after a restore, whether what would be published is live already. Writes nothing, publishes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from outbox.event import Event
from outbox.ledger import Ledger, Step
from publisher.errors import GraphError, NoAnswer, TokenUnreadable, VariantUnreadable
from publisher.graph import GraphClient, open_graph
from publisher.looker import intended_of
from publisher.metrics import PublisherMetrics
from publisher.placement import HandleState, HandleStatus, Placement, PostType, Sight, text_digest
from publisher.placements import place
from publisher.refusal import refusal_of
from publisher.settings import PublisherSettings
from publisher.tokens import KeyRing, open_key_ring
from publisher.trail import PUBLISH, Trail
from publisher.variants import Connections, VariantCreated, Variants, handles_elsewhere, known_elsewhere
from publisher.verify import Candidate, Continues, Surroundings, Unreadable, Verdict, verify


@asynccontextmanager
async def open_verifier(connections: Connections, settings: PublisherSettings) -> AsyncIterator[Verifier]:
    """Open a verifier. Raises SettingsUnsuitable: The keys for tokens are missing or wrong."""
    keys = open_key_ring(settings)
    async with open_graph(settings, PublisherMetrics(CollectorRegistry())) as graph:
        yield Verifier(connections, Variants(connections), graph, keys)


@dataclass(frozen=True, slots=True)
class Verifier:
    """Looks for one event at a call."""

    connections: Connections
    variants: Variants
    graph: GraphClient
    keys: KeyRing

    async def verify(self, event: Event, steps: list[Step], known_until: datetime) -> Verdict:
        """Look whether a post that a restored log would publish is live already.

        Args:
            event: The event.
            steps: What the log knows of its saga.
            known_until: What the log knows of is whole up to this instant.
        """
        ledger = Ledger(event, _write_nothing, steps)
        trail = Trail(ledger)
        try:
            lookup = await self.variants.look_up(VariantCreated.model_validate(event.payload))
        except (ValidationError, VariantUnreadable):
            return Continues()  # nothing is published of it
        variant, account = lookup.variant, lookup.account
        if variant is None or account is None or refusal_of(event, lookup, variant, account) is not None:
            return Continues()  # nothing is published of it
        try:
            token = self.keys.decrypt(account.token_ciphertext)
            placement = place(intended_of(trail, variant), account, self.graph, token)
            sight = await _whole_sight(placement, trail, known_until)
        except (TokenUnreadable, GraphError, NoAnswer) as error:
            return Unreadable(f"{account.key} can't be looked at: {error}")
        live = sight.live
        intent = ledger.open_intent()
        handles = frozenset(str(step.detail["handle"]) for step in steps if step.detail.get("handle") is not None)
        candidate = Candidate(
            account=account.key,
            is_story=placement.name == "story",
            post_type=placement.post_type,
            # A text is all that a text post is known by, and Meta may have changed it: no other text excludes it.
            text_digest=None if placement.post_type is PostType.TEXT else text_digest(placement.text),
            due_at=max(event.created_at, event.publish_at or event.created_at),
            handles=handles,
            is_done=ledger.answer(PUBLISH) is not None,
            is_prepared_published=sight.status.state is HandleState.PUBLISHED,
            intent_at=None if intent is None else trail.called_at(intent),
        )
        around = Surroundings(
            now=lookup.now(),
            known_until=known_until,
            live=live,
            known_ids=await known_elsewhere(self.connections, event.id, [each.id for each in live]),
            known_handles=await handles_elsewhere(
                self.connections, event.id, [each.handle for each in live if each.handle is not None]
            ),
        )
        return verify(candidate, around)


async def _whole_sight(placement: Placement, trail: Trail, since: datetime) -> Sight:
    """Read what is live on the account, and what became of what is prepared, if all of it is."""
    live = await placement.live(since)
    steps = [step for part in placement.published_parts if (step := trail.prepared(part.name)) is not None]
    if not steps or len(steps) < len(placement.published_parts):
        return Sight(HandleStatus(HandleState.GONE), live)
    sight = await placement.look([step.detail["handle"] for step in steps], since)
    return replace(sight, live=(*sight.live, *live))


async def _write_nothing(event: Event, _step: Step, _call_seconds: float | None) -> datetime:
    raise AssertionError(f"verifying event {event.id} wrote a step")
